# SPDX-License-Identifier: Apache-2.0
"""
What a pod's status says of the program in it: it waits, it runs, it has ended, or what is around it has failed.

The order of the rules matters: a program that ended by itself has ended by itself, whatever befell its pod afterwards; one that was ended
with its pod failed at nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.failures import BadStep, CannotStart, InfrastructureFailure, StepFailure

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

STEP, STAGE_IN, STAGE_OUT = "step", "stage-in", "stage-out"
"""Names of a pod's containers: the program, and what carries its files."""

_SIGKILL, _SIGTERM = 137, 143
_NO_IMAGE = re.compile(r"not found|manifest unknown|does not exist|name unknown|repository unknown", re.IGNORECASE)
_NEVER_STARTS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_PULLS = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageInspect", "SignatureValidationFailed")
_NOT_STARTED = ("StartError", "ContainerCannotRun", "RunContainerError")
_ARTIFACT_EXIT = 3
"""Exit code of the stager for an input that no retry brings back."""

LOST_AFTER = timedelta(seconds=60)
"""After the end of its grace, a pod that is being deleted and whose program has not been seen to end is on a node that does not answer."""


@dataclass(frozen=True, slots=True)
class Status:
    """
    What there is to know of a program.

    :param waits_for: what keeps it from starting, in words; it may start yet
    :param pulls: whether that is its image
    :param is_leaving: whether its pod is being deleted, or its files still come in: no start to wait for
    :param others_run: whether other programs of the pod run on although this one has ended
    :param started: when it started, seconds since the epoch
    :param exit_code: how it ended by itself; its files may still be under way
    :param out_of_memory: whether its memory limit killed it
    :param is_over: whether nothing of the pod runs any more
    :param failure: what happened around it; nothing more will come of this pod
    """

    waits_for: str | None = None
    pulls: bool = False
    is_leaving: bool = False
    others_run: bool = False
    started: float | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    is_over: bool = False
    failure: StepFailure | None = None


def status_of(pod: V1Pod, task_id: str, now: datetime | None = None) -> Status:
    """Read a pod's status."""
    where = f"step '{task_id}'"
    status = pod.status
    program = _container(status.container_statuses, STEP)
    ended = program.state.terminated if program is not None and program.state is not None else None
    is_over = status.phase in ("Succeeded", "Failed") or (ended is not None and not _still_runs(pod))
    now = now or datetime.now(UTC)
    if ended is not None:
        return _ended(pod, ended, where, is_over or _is_lost(pod, now))
    if failure := _staging_failure(pod, where):
        return Status(is_over=is_over, failure=failure)
    if status.phase == "Failed":
        return Status(is_over=True, failure=InfrastructureFailure(f"{where}: {_disruption(pod) or _pod_reason(pod)}"))
    if pod.metadata.deletion_timestamp is not None:
        return _being_deleted(pod, where, now)
    running = program.state.running if program is not None and program.state is not None else None
    if running is not None:
        return Status(started=running.started_at.timestamp())
    return _pending(pod, where)


def _ended(pod: V1Pod, ended: Any, where: str, is_over: bool) -> Status:
    said = f"{ended.reason or ''}: {ended.message or ''}".strip(": ")
    if ended.reason in _NOT_STARTED:
        return Status(is_over=is_over, failure=CannotStart(f"{where}: its program cannot be started: {said}"))
    if ended.reason == "OOMKilled":
        return Status(exit_code=ended.exit_code, out_of_memory=True, is_over=is_over)
    others_run = any(
        one.name != STEP and one.state is not None and one.state.running for one in pod.status.container_statuses or ()
    )
    if ended.exit_code == 0 and not _was_told_to_stop(pod, ended.finished_at):
        return Status(exit_code=0, is_over=is_over, others_run=others_run)
    disruption = _disruption(pod)
    if disruption is None and ended.reason == "ContainerStatusUnknown":
        disruption = "its node lost sight of its program"
    if disruption is None and ended.exit_code in (_SIGKILL, _SIGTERM):
        disruption = (
            f"its program was killed from outside (exit code {ended.exit_code}, and not for its memory): "
            "its node was shut down, or somebody stopped it"
        )
    if disruption is not None:
        return Status(is_over=is_over, failure=InfrastructureFailure(f"{where}: {disruption}"))
    return Status(exit_code=ended.exit_code, is_over=is_over, others_run=others_run)


def _disruption(pod: V1Pod) -> str | None:
    """What was done to a pod, or to its node, that ends its program; ``None`` if nothing was."""
    for condition in pod.status.conditions or ():
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return f"its pod was disrupted ({condition.reason}): {condition.message}"
    if pod.status.reason:
        return _pod_reason(pod)
    if pod.metadata.deletion_timestamp is not None:
        return "its pod was deleted by somebody else before its program had ended"
    return None


def _pod_reason(pod: V1Pod) -> str:
    return f"its pod failed ({pod.status.reason or 'no reason given'}): {pod.status.message or 'no message given'}"


def _staging_failure(pod: V1Pod, where: str) -> StepFailure | None:
    """Why files did not get in."""
    stager = _container(pod.status.init_container_statuses, STAGE_IN)
    ended = stager.state.terminated if stager is not None and stager.state is not None else None
    if ended is None or ended.exit_code == 0:
        return None
    if disruption := _disruption(pod):
        return InfrastructureFailure(f"{where}: {disruption}")
    said = stager_message(ended)
    if ended.exit_code == _ARTIFACT_EXIT:
        return BadStep(f"{where}: {said}")
    return InfrastructureFailure(
        f"{where}: its files could not be brought into its pod (exit code {ended.exit_code}): {said}"
    )


def upload_failure(pod: V1Pod, task_id: str) -> StepFailure | None:
    """Why the outputs of a program that ended well did not get out; ``None`` if they did, as far as the pod says."""
    stager = _container(pod.status.init_container_statuses, STAGE_OUT)
    ended = stager.state.terminated if stager is not None and stager.state is not None else None
    if stager is None or (ended is not None and ended.exit_code == 0):
        return None
    said = stager_message(ended) if ended is not None else "its end was not seen"
    if ended is not None and ended.exit_code == _SIGKILL:
        said = "it was killed before it was done; give it more time with terminationGracePeriodSeconds in 'pod', or find out who deleted the pod"
    return InfrastructureFailure(
        f"step '{task_id}': its program ended well, but its outputs could not be uploaded: {said}"
    )


def stager_message(ended: Any) -> str:
    """What the stager said of its end; its message is JSON, and may be cut or missing."""
    text = (ended.message or "").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, TypeError, KeyError):
        return text or ended.reason or f"it ended with exit code {ended.exit_code}"


def _being_deleted(pod: V1Pod, where: str, now: datetime) -> Status:
    """A pod that somebody deletes: its program is being ended, or its node does not answer."""
    if _is_lost(pod, now):
        lost = f"{_disruption(pod)}, and its node {pod.spec.node_name} has not said since that it is gone"
        return Status(is_over=True, failure=InfrastructureFailure(f"{where}: {lost}"))
    if pod.spec.node_name is None:
        return Status(is_over=True, failure=InfrastructureFailure(f"{where}: {_disruption(pod)}"))
    return Status(waits_for="its pod is being deleted", is_leaving=True)


def _is_lost(pod: V1Pod, now: datetime) -> bool:
    """Whether a pod that is being deleted should have been gone for a while: nobody is there to end it."""
    if pod.metadata.deletion_timestamp is None:
        return False
    for condition in pod.status.conditions or ():
        # Its node does not answer; the grace that it would be given there means nothing.
        if condition.type == "DisruptionTarget" and condition.reason == "DeletionByTaintManager":
            return bool(now > condition.last_transition_time + LOST_AFTER)
    # Kubernetes sets the time by when the pod should be gone.
    return bool(now > pod.metadata.deletion_timestamp + LOST_AFTER)


def _was_told_to_stop(pod: V1Pod, finished_at: datetime | None) -> bool:
    """Whether a program had been asked to end when it did: that it ended well then says nothing of its work."""
    moments = [
        condition.last_transition_time
        for condition in pod.status.conditions or ()
        if condition.type == "DisruptionTarget" and condition.status == "True" and condition.last_transition_time
    ]
    if (asked := _asked_to_end(pod)) is not None:
        moments.append(asked)
    return finished_at is not None and any(moment < finished_at for moment in moments)


def has_run(pod: V1Pod) -> bool:
    """Whether a pod's program has started, so that there may be output of it."""
    program = _container(pod.status.container_statuses, STEP)
    state = program.state if program is not None else None
    if state is None or (state.running is None and state.terminated is None):
        return False
    return state.terminated is None or state.terminated.reason not in _NOT_STARTED


def asked_to_end_after(pod: V1Pod) -> timedelta | None:
    """How long a pod's program had run when the pod was deleted; ``None`` if it never started, or was not deleted."""
    program = _container(pod.status.container_statuses, STEP)
    state = (program.state.terminated or program.state.running) if program is not None and program.state else None
    asked = _asked_to_end(pod)
    if state is None or state.started_at is None or asked is None:
        return None
    found: timedelta = asked - state.started_at
    return found


def _asked_to_end(pod: V1Pod) -> datetime | None:
    """When a pod was deleted: Kubernetes sets the time by when it should be gone."""
    if pod.metadata.deletion_timestamp is None:
        return None
    asked: datetime = pod.metadata.deletion_timestamp - timedelta(
        seconds=pod.metadata.deletion_grace_period_seconds or 0
    )
    return asked


def _pending(pod: V1Pod, where: str) -> Status:
    if gates := [gate.name for gate in pod.spec.scheduling_gates or ()]:
        return Status(waits_for=f"its pod is kept from its node until somebody opens {', '.join(gates)}")
    for condition in pod.status.conditions or ():
        if (
            condition.type == "PodScheduled"
            and condition.status == "False"
            # What was said of gates that are open by now, before the scheduler has looked again.
            and condition.reason != "SchedulingGated"
        ):
            return Status(waits_for=f"no node takes its pod ({condition.reason}): {condition.message}")
    stager = _container(pod.status.init_container_statuses, STAGE_IN)
    if stager is not None and stager.state is not None and stager.state.running is not None:
        return Status(waits_for="its inputs are brought into its pod", is_leaving=True)
    for container in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waiting = container.state.waiting if container.state is not None else None
        if waiting is None or waiting.reason in (None, "PodInitializing", "ContainerCreating"):
            continue
        said = f"{waiting.reason}: {waiting.message or ''}".strip(": ")
        which = f"container '{container.name}' ({container.image})"
        is_pull = waiting.reason in _PULLS
        if waiting.reason in _NEVER_STARTS or (is_pull and _NO_IMAGE.search(waiting.message or "")):
            return Status(failure=CannotStart(f"{where}: {which} cannot be started: {said}"))
        return Status(waits_for=f"{which} waits: {said}", pulls=is_pull)
    return Status(waits_for="its node prepares its pod" if pod.spec.node_name else "no node was chosen for its pod yet")


def _still_runs(pod: V1Pod) -> bool:
    """Whether the stager is at work after the program's end."""
    stager = _container(pod.status.init_container_statuses, STAGE_OUT)
    return stager is not None and (stager.state is None or stager.state.terminated is None)


def _container(statuses: Any, name: str) -> Any:
    return next((one for one in statuses or () if one.name == name), None)
