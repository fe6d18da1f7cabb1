# SPDX-License-Identifier: Apache-2.0
"""Which containers a try takes for its own: by their labels, on a real daemon."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import docker
import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts import Store, Try
from airflow_mlops.operators.docker_container import earlier_containers, goes_on
from airflow_mlops.operators.docker_image import find_image
from airflow_mlops.operators.identity import TaskIdentity

pytestmark = [pytest.mark.docker, pytest.mark.airflow]


def first(map_index: int = -1) -> Try:
    return Try(id="0", map_index=map_index, try_number=1, max_tries=0, retries=0, clears=0, run_started=0.0)


@pytest.fixture
def cli(docker_daemon: str, busybox_image: str) -> Any:
    return docker.APIClient(docker_daemon, version="auto")


def seen_by(identity: TaskIdentity, store: Store) -> Any:
    return SimpleNamespace(identity=identity, store=store)


def test_two_airflows_with_the_same_dag_and_run_do_not_see_each_other(cli: Any, tmp_path: Any) -> None:
    one = TaskIdentity(instance="one", dag_id="train", run_id="monday", task_id="fit", current=first())
    two = replace(one, instance="two")
    store = Store.open(f"file://{tmp_path}")
    container = cli.create_container("mlops-busybox:1", ["sleep", "60"], labels=one.labels("0123456789ab"))["Id"]
    try:
        cli.start(container)
        (found,) = earlier_containers(cli, seen_by(one, store))
        assert (found["Id"], goes_on(found, seen_by(one, store))) == (container, True)
        assert earlier_containers(cli, seen_by(two, store)) == []
        assert earlier_containers(cli, seen_by(replace(one, run_id="tuesday"), store)) == []
        assert earlier_containers(cli, seen_by(replace(one, current=first(0)), store)) == []
        assert one.place.generation_key != two.place.generation_key
    finally:
        cli.remove_container(container, force=True)


def test_a_container_of_another_generation_is_seen_and_not_gone_on_with(cli: Any, tmp_path: Any) -> None:
    old = TaskIdentity(instance="one", dag_id="train", run_id="monday", task_id="fit", current=first())
    new = replace(old, generation=2)
    store = Store.open(f"file://{tmp_path}")
    container = cli.create_container("mlops-busybox:1", ["sleep", "60"], labels=old.labels("0123456789ab"))["Id"]
    try:
        (found,) = earlier_containers(cli, seen_by(new, store))
        assert not goes_on(found, seen_by(new, store))
        assert not goes_on(found, seen_by(old, store)), "one that was never started"
    finally:
        cli.remove_container(container, force=True)


def test_an_image_is_known_by_the_digest_of_its_own_repository() -> None:
    own, other = "registry.acme/py@sha256:" + "1" * 64, "mirror/py@sha256:" + "2" * 64
    daemon = SimpleNamespace(inspect_image=lambda name: {"Id": "sha256:3", "RepoDigests": [other, own]})
    assert find_image(daemon, "registry.acme/py:1").facts()["image_digest"] == own
    assert find_image(daemon, own).digest == own
    assert find_image(daemon, "registry.acme/py").digest == own
    built = SimpleNamespace(inspect_image=lambda name: {"Id": "sha256:3", "RepoDigests": []})
    assert find_image(built, "py:1").facts() == {"image": "py:1", "image_id": "sha256:3"}
