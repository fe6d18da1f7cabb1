# SPDX-License-Identifier: Apache-2.0
"""Which containers a try takes for its own: by their labels, on a real daemon."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import docker
import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts import Store, Try
from airflow_mlops.operators.docker_container import earlier_containers, goes_on
from airflow_mlops.operators.docker_daemon import Patience
from airflow_mlops.operators.docker_image import find_image
from airflow_mlops.operators.docker_wait import Watch
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
    labels = one.labels("0123456789ab")
    container = cli.create_container("mlops-busybox:1", ["sleep", "60"], labels=labels, name="mlops-0123456789ab")["Id"]
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
    container = cli.create_container(
        "mlops-busybox:1", ["sleep", "60"], labels=old.labels("0123456789ab"), name="mlops-0123456789ab"
    )["Id"]
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


def test_a_container_of_an_image_that_was_made_of_ours_is_not_ours(cli: Any, tmp_path: Any) -> None:
    identity = TaskIdentity(instance="one", dag_id="train", run_id="monday", task_id="fit", current=first())
    attempt = seen_by(identity, Store.open(f"file://{tmp_path}"))
    ours = cli.create_container("mlops-busybox:1", ["true"], labels=identity.labels("0123456789ac"))["Id"]
    try:
        cli.commit(ours, "mlops-made-of-ours", "1")
    finally:
        cli.remove_container(ours, force=True)
    inherited = cli.create_container("mlops-made-of-ours:1", ["sleep", "60"])["Id"]
    other = replace(identity, task_id="other")
    labels = {**other.labels("0123456789ad")}
    owned = cli.create_container("mlops-made-of-ours:1", ["true"], labels=labels, name="mlops-0123456789ad")["Id"]
    try:
        assert cli.inspect_container(inherited)["Config"]["Labels"]["mlops.task"] == "fit"
        assert earlier_containers(cli, attempt) == []
        (found,) = earlier_containers(cli, seen_by(other, attempt.store))
        assert found["Id"] == owned
        assert not found["Labels"]["mlops.deadline"]
    finally:
        cli.remove_container(inherited, force=True)
        cli.remove_container(owned, force=True)
        cli.remove_image("mlops-made-of-ours:1")


def test_a_container_that_ended_in_time_did_so_however_late_it_is_looked_at(cli: Any) -> None:
    container = cli.create_container("mlops-busybox:1", ["sh", "-c", "exit 4"])["Id"]
    try:
        cli.start(container)
        cli.wait(container)
        patience = Patience(cli, 5, task_id="fit", log=logging.getLogger(), check=lambda: None)
        now = time.monotonic()
        state = Watch(patience, container, "fit", now, lambda: None).await_end()
        assert state is not None and state["ExitCode"] == 4
        assert Watch(patience, container, "fit", now - 60, lambda: None).await_end() is None
    finally:
        cli.remove_container(container, force=True)
