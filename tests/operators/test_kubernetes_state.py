# SPDX-License-Identifier: Apache-2.0
"""
What a pod's status says, for statuses that one node cannot be brought to on command: a node that is lost, shut down or full. They are
written as Kubernetes writes them; what a cluster can be made to do is done in ``test_kubernetes.py`` and ``test_pod_lives.py``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("airflow")
pytest.importorskip("kubernetes")

from kubernetes import client

from airflow_mlops.operators.failures import BadStep, CannotStart, InfrastructureFailure
from airflow_mlops.operators.kubernetes_names import label_value
from airflow_mlops.operators.kubernetes_state import Status, status_of, upload_failure

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class _Answer:
    """What the client reads a model from."""

    def __init__(self, document: Any) -> None:
        self.data = json.dumps(document, default=str)


def pod(status: dict[str, Any], **metadata: Any) -> Any:
    """A pod on a node, as the client gives it."""
    document = {
        "metadata": {"name": "mlops-1", **metadata},
        "spec": {"nodeName": "n1", "containers": []},
        "status": status,
    }
    return client.ApiClient().deserialize(_Answer(document), "V1Pod")


def program(**state: Any) -> dict[str, Any]:
    one = {"name": "step", "image": "busybox:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"containerStatuses": [one]}


def stager(name: str, **state: Any) -> dict[str, Any]:
    one = {"name": name, "image": "stager:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"initContainerStatuses": [one]}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


DISRUPTED = {
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by a"}]
}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
            "Evicted): The node was low",
        ),
        ({"phase": "Failed", "reason": "NodeShutdown", "message": "m", **program(**ended(137))}, "NodeShutdown"),
        ({"phase": "Failed", **DISRUPTED, **program(**ended(143))}, "PreemptionByScheduler): by a"),
        ({"phase": "Failed", **program(**ended(137, "ContainerStatusUnknown"))}, "its node lost sight of its program"),
        ({"phase": "Failed", **program(**ended(137))}, "was killed from outside"),
        ({"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected"}, "OutOfcpu"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no GPU"}, "UnexpectedAdmissionError"),
    ],
)
def test_what_befell_the_pod_is_not_its_programs_failure(found: dict[str, Any], said: str) -> None:
    status = status_of(pod(found), "fit", NOW)
    assert isinstance(status.failure, InfrastructureFailure)
    assert said in str(status.failure) and status.is_over


def test_a_program_that_ended_well_has_ended_well_whatever_befell_its_pod_then() -> None:
    found = {"phase": "Failed", **DISRUPTED, **program(**ended(0, "Completed"))}
    assert status_of(pod(found), "fit", NOW) == Status(exit_code=0, is_over=True)


def test_a_program_that_ended_well_because_it_was_told_to_end_has_not() -> None:
    done = {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T11:30:00Z"}
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "m"}
    for moment, failed in (("2026-01-01T11:29:00Z", True), ("2026-01-01T11:31:00Z", False)):
        found = {
            "phase": "Succeeded",
            "conditions": [evicted | {"lastTransitionTime": moment}],
            **program(terminated=done),
        }
        assert (status_of(pod(found), "fit", NOW).failure is not None) == failed
    found = {"phase": "Succeeded", **program(terminated=done)}
    for moment, failed in (("2026-01-01T11:30:05Z", True), ("2026-01-01T11:40:00Z", False)):
        deleted = pod(found, deletionTimestamp=moment, deletionGracePeriodSeconds=10)
        assert (status_of(deleted, "fit", NOW).failure is not None) == failed


def test_an_upload_on_a_node_that_is_lost_is_over() -> None:
    found = {"phase": "Running", **program(**ended(0, "Completed")), **stager("stage-out", running={"startedAt": None})}
    assert not status_of(pod(found, deletionTimestamp="2026-01-01T12:00:00Z"), "fit", NOW).is_over
    assert status_of(pod(found, deletionTimestamp="2026-01-01T11:00:00Z"), "fit", NOW).is_over


def test_an_exit_code_of_its_own_is_the_programs_although_its_pod_is_being_deleted() -> None:
    found = {"phase": "Failed", **program(**ended(3))}
    deleted = pod(found, deletionTimestamp="2026-01-01T11:59:00Z")
    assert isinstance(status_of(deleted, "fit", NOW).failure, InfrastructureFailure)
    assert status_of(pod(found), "fit", NOW).exit_code == 3


@pytest.mark.parametrize(("minutes", "lost"), [(0, False), (2, True)])
def test_a_pod_whose_node_does_not_answer_is_lost_a_while_after_its_deletion(minutes: int, lost: bool) -> None:
    running = {"phase": "Running", **program(running={"startedAt": "2026-01-01T11:00:00Z"})}
    deleted = pod(running, deletionTimestamp="2026-01-01T12:00:00Z")
    status = status_of(deleted, "fit", NOW + timedelta(minutes=minutes))
    assert (status.failure is not None) == lost
    if lost:
        assert "its node n1 has not said since that it is gone" in str(status.failure)


def test_gates_of_others_are_named_while_they_are_shut_and_not_when_they_are_open() -> None:
    gated = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }
    waiting = pod({"phase": "Pending", "conditions": [gated]})
    waiting.spec.scheduling_gates = [client.V1PodSchedulingGate(name="kueue.x-k8s.io/admission")]
    assert "until somebody opens kueue.x-k8s.io/admission" in str(status_of(waiting, "fit", NOW).waits_for)
    waiting.spec.scheduling_gates = None
    assert status_of(waiting, "fit", NOW).waits_for == "its node prepares its pod"


@pytest.mark.parametrize(
    ("message", "kind", "pulls"),
    [
        ('failed to resolve reference "r/x:1": r/x:1: not found', CannotStart, False),
        ("pull access denied, repository does not exist", CannotStart, False),
        ("dial tcp 10.0.0.1:443: i/o timeout", None, True),
        ("toomanyrequests: rate limit", None, True),
    ],
)
def test_an_image_that_is_not_there_is_told_from_a_registry_that_is_not(message: str, kind: Any, pulls: bool) -> None:
    found = {"phase": "Pending", **program(waiting={"reason": "ErrImagePull", "message": message})}
    status = status_of(pod(found), "fit", NOW)
    assert (type(status.failure) if status.failure else None, status.pulls) == (kind, pulls)


def test_an_input_that_is_gone_is_not_worth_another_try() -> None:
    text = json.dumps({"class": "artifact", "message": "s3://b/x is gone from the store"})
    failure = status_of(pod({"phase": "Failed", **stager("stage-in", **ended(3, message=text))}), "fit", NOW).failure
    assert isinstance(failure, BadStep) and "s3://b/x is gone from the store" in str(failure)
    failure = status_of(pod({"phase": "Failed", **stager("stage-in", **ended(1, message="{cut"))}), "fit", NOW).failure
    assert isinstance(failure, InfrastructureFailure) and "{cut" in str(failure)


def test_outputs_that_did_not_get_out_are_an_infrastructure_failure() -> None:
    found = {"phase": "Failed", **program(**ended(0, "Completed")), **stager("stage-out", **ended(137))}
    assert "terminationGracePeriodSeconds" in str(upload_failure(pod(found), "fit"))
    found |= stager("stage-out", **ended(0, "Completed"))
    assert upload_failure(pod(found), "fit") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fit", "fit"),
        ("manual__2026-01-01T00:00:00+00:00", "manual__2026-01-01T00-00-00-00-00-"),
        ("x" * 80, "x" * 54 + "-"),
        ("-", ""),
        ("ü", ""),
    ],
)
def test_any_name_is_a_label(text: str, value: str) -> None:
    label = label_value(text)
    assert label.startswith(value) and 0 < len(label) <= 63
    assert label[0].isalnum() and label[-1].isalnum()
    assert label_value(text) == label != label_value(text + "2")
