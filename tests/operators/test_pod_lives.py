# SPDX-License-Identifier: Apache-2.0
"""What becomes of a step's pod when its worker dies, is drained or told to stop, and when somebody deletes the pod."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.operators.test_lives import Lives, attempts, outcome
from tests.parts.airflow_home import run_in_home
from tests.parts.namespace import Namespace, temporary_namespace
from tests.parts.s3 import S3Server, new_bucket

if TYPE_CHECKING:
    from tests.parts.kubernetes import Cluster

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.slow]

SCENARIOS = (
    "of_a_lost_worker",
    "that_ended_unseen",
    "that_ended_unseen_and_was_deleted",
    "of_a_lost_supervisor",
    "drained",
    "of_another_spec",
    "cleared_while_running",
    "deleted_while_running",
    "evicted",
    "marked",
)
AT_ONCE = ("created_by_two_before_the_second_looks", "created_by_two_after_the_second_looked")


@pytest.fixture(scope="module")
def place(kubernetes_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """A namespace whose pods may see folders of the node, where programs leave their traces."""
    with temporary_namespace(kubernetes_cluster, tmp_path_factory.mktemp("worker"), profile="privileged") as made:
        yield made


def live_in_pods(
    script: str, scenarios: tuple[str, ...], place: Namespace, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Lives:
    """What a script beside this one saw of its scenarios."""
    url, storage = new_bucket(s3)
    home = tmp_path_factory.mktemp("pod-lives") / "home"
    for folder in home.parents:
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)  # the programs' user must reach it
    settings = {
        "STORE": url,
        "STORAGE_OPTIONS": json.dumps(storage),
        "ALLOWED_NAMESPACES": "*",
        "INSTANCE": "lives",
        "STAGER_IMAGE": "mlops-stager:1",
    }
    options = {"namespace": place.name, "settings": settings, "folder": str(s3.folder / url.removeprefix("s3://"))}
    kubectl = [str(place.cluster.programs / "kubectl"), "--kubeconfig", str(place.cluster.kubeconfig)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECTL", shlex.join(kubectl))
        patch.setenv("KUBECONFIG", str(place.kubeconfig))
        run_in_home(Path(__file__).with_name(script), home, json.dumps(options), *scenarios, seconds=580)
    found: Lives = json.loads((home / "lives.json").read_text())
    return found


@pytest.fixture(scope="module")
def lives(place: Namespace, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return live_in_pods("pod_lives.py", SCENARIOS, place, cluster_s3, tmp_path_factory)


@pytest.fixture(scope="module")
def at_once(place: Namespace, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return live_in_pods("pod_lives.py", AT_ONCE, place, cluster_s3, tmp_path_factory)


@pytest.mark.parametrize("when", AT_ONCE)
def test_of_two_task_processes_that_create_a_pod_at_once_one_has_it_and_its_program_runs_once(
    at_once: Lives, when: str
) -> None:
    life = at_once[when]
    assert outcome(life) == ("success, 1 left", 1, ["1"])
    assert (life["left"], life["parameters"]) == ([], {"n": 1})
    assert len(attempts(life, "1")) == 1


@pytest.mark.parametrize(
    "lost",
    ["of_a_lost_worker", "that_ended_unseen", "that_ended_unseen_and_was_deleted", "of_a_lost_supervisor", "drained"],
)
def test_a_retry_goes_on_with_the_pod(lives: Lives, lost: str) -> None:
    life = lives[lost]
    assert outcome(life) == ("success", 1, ["1"])
    assert (life["left"], life["parameters"]) == ([], {"n": 1})
    assert len(attempts(life, "1")) == 1


def test_a_clear_of_a_running_step_stops_its_pod_first(lives: Lives) -> None:
    assert outcome(lives["cleared_while_running"]) == ("success", 2, ["2"])
    assert lives["cleared_while_running"]["left"] == []


def test_a_pod_that_the_retry_would_not_start_is_stopped(lives: Lives) -> None:
    life = lives["of_another_spec"]
    assert outcome(life) == ("success", 2, ["1"])
    assert (life["left"], life["parameters"]) == ([], {"n": 77})


@pytest.mark.parametrize("what", ["deleted_while_running", "evicted"])
def test_a_pod_that_is_taken_away_is_an_infrastructure_failure_and_runs_again(lives: Lives, what: str) -> None:
    life = lives[what]
    assert outcome(life) == ("success", 2, ["1"])
    assert (life["left"], life["parameters"]) == ([], {"n": 2})


def test_a_step_that_is_marked_as_failed_has_no_pod_half_a_minute_later(lives: Lives) -> None:
    life = lives["marked"]
    assert outcome(life) == ("failed", 1, [])
    assert (life["left"], attempts(life, "1")) == ([], set())


def test_nothing_of_all_this_is_left(lives: Lives, at_once: Lives, place: Namespace) -> None:
    assert place.left() == []
