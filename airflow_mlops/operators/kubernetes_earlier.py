# SPDX-License-Identifier: Apache-2.0
"""Pods that earlier tries of a task instance left: which one this try goes on with, and how the others go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import all_generations
from airflow_mlops.artifacts.attempts import attempts_of
from airflow_mlops.operators.adoption import is_kept_evidence, is_worth_going_on
from airflow_mlops.operators.kubernetes_api import GATE
from airflow_mlops.operators.kubernetes_names import annotation, is_ours, pod_name, task_selector
from airflow_mlops.operators.kubernetes_state import status_of
from airflow_mlops.operators.ownership import ensure_owner

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes_api import Pods


def earlier_pods(pods: Pods, attempt: Attempt) -> list[Any]:
    """All pods of this task instance, whatever the try, the newest first."""
    return [pod for pod in pods.list(task_selector(attempt.identity)) if is_ours(pod)]


def goes_on(pod: Any, attempt: Attempt, task_id: str) -> bool:
    """
    Whether a pod is one to go on with: of this generation, neither failed nor stopped by a try that said so, and not disrupted meanwhile.

    One that was created and not let to its node is not: its try may be about to remove it, and nothing of it is lost.
    """
    if any(gate.name == GATE for gate in pod.spec.scheduling_gates or ()):
        return False
    status = status_of(pod, task_id)
    if status.failure is not None or (pod.metadata.deletion_timestamp is not None and status.exit_code is None):
        return False
    return is_worth_going_on(
        attempt,
        earlier=annotation(pod, "attempt"),
        generation=annotation(pod, "generation"),
        incarnation=annotation(pod, "incarnation"),
        started_by=annotation(pod, "try"),
    )


def is_evidence(pod: Any, attempt: Attempt) -> bool:
    """Whether a pod has ended and is kept for a person to look at."""
    return pod.status.phase in ("Succeeded", "Failed") and is_kept_evidence(
        attempt,
        earlier=annotation(pod, "attempt"),
        generation=annotation(pod, "generation"),
        incarnation=annotation(pod, "incarnation"),
    )


def remove(pods: Pods, name: str, task_id: str, grace: int) -> None:
    """
    End a pod and let it go, and wait until nothing of it runs: nothing else of its task may be started before.

    :param grace: seconds that its program is given, if it runs
    """
    asked = has_secret = False
    for pod in pods.follow(name, lambda: float("inf")):
        if pod is None:
            return
        has_secret = name in secret_names(pod)
        if status_of(pod, task_id).is_over:
            break
        if not asked:
            asked = True
            pods.delete(name, grace)
    # In this order: a pod that was released and not deleted is found by its labels, one that was deleted and not released stays for ever.
    pods.release(name)
    pods.delete(name, 0)
    if has_secret:
        # It goes with the pod, unless its worker died before it was the pod's.
        pods.delete_secret(name)


def remove_orphans(pods: Pods, attempt: Attempt, found: Sequence[Any], log: Any) -> None:
    """
    Remove the secrets of earlier tries that have no pod: their workers died between the two.

    Their names follow from the attempts' folders in the store, which were there before: a worker's role can list no secrets, since that would be
    to read them all.

    :param found: all pods of the task instance
    """
    identity = attempt.identity
    if identity.try_number == 1 and not identity.begins_anew:
        return
    with_pod = {pod.metadata.name for pod in found}
    store = attempt.store
    attempts = [one for place in all_generations(store, identity.place) for one in attempts_of(store, place)]
    names = {pod_name(one) for one in attempts if one != attempt.id} - with_pod
    if names:
        ensure_owner(attempt)
    for name in sorted(names):
        if pods.delete_secret(name):
            log.info("Removed secret %s of an earlier try, whose worker died before there was a pod", name)


def secret_names(pod: Any) -> set[str]:
    """Secrets that a pod's containers and volumes refer to."""
    containers = [*(pod.spec.init_containers or ()), *pod.spec.containers]
    sources = [
        variable.value_from for container in containers for variable in container.env or () if variable.value_from
    ]
    found = {source.secret_key_ref.name for source in sources if source.secret_key_ref}
    return found | {volume.secret.secret_name for volume in pod.spec.volumes or () if volume.secret}
