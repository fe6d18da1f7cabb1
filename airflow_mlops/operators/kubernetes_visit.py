# SPDX-License-Identifier: Apache-2.0
"""
Let somebody into a pod like the one that a step had: its program waits instead of working, and what they run is run beside it.

It takes no outputs anywhere, and is no attempt of the task. It ends with its visitor, also with one who is killed: a second program in it reads
from a connection that nobody writes to, and ends the first one when that breaks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators import scratch
from airflow_mlops.operators.connections import database_reachable
from airflow_mlops.operators.failures import InfrastructureFailure, StepFailure
from airflow_mlops.operators.kubernetes_connection import client_of, hook_of
from airflow_mlops.operators.kubernetes_making import bring_files, connect, create_with_secret
from airflow_mlops.operators.kubernetes_names import pod_name
from airflow_mlops.operators.kubernetes_patch import patch_of
from airflow_mlops.operators.kubernetes_pod import NOBODY, group_of_pods, manifest_of, merged, secret_keys
from airflow_mlops.operators.kubernetes_request import as_manifest, completed, files_of
from airflow_mlops.operators.kubernetes_state import STAGE_OUT, STEP, status_of
from airflow_mlops.operators.kubernetes_terminal import Session, on_terminal
from airflow_mlops.operators.policy_pods import check_pod
from airflow_mlops.operators.stager_job import drop_local_inputs

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.operators.kubernetes_api import Pods
    from airflow_mlops.operators.reopening import Reopened

LONGEST = 12 * 3600
"""Seconds after which a pod ends, whoever is in it."""

NOBODY_CAME = 120
"""Seconds after which one ends that its visitor has not come to."""

WAITS = (
    "sh",
    "-c",
    "trap 'exit 0' TERM; trap came=1 USR1; left=$0; "
    'while [ -n "$came" ] || [ "$left" -gt 0 ]; do sleep 1 & wait $!; left=$((left - 1)); done',
    str(NOBODY_CAME),
)
"""What the pod runs in place of its program."""

ENDS_WITH_VISITOR = ("sh", "-c", "kill -USR1 1; cat > /dev/null; kill -TERM 1")

_SOON = 1
"""Seconds for what runs in the pod when its visitor has gone."""

_PATIENCE = 30
"""Seconds that the API server may be away: somebody waits."""

_GONE_WITHIN = 30.0
_SAYS_WHY_AFTER = 5.0
"""Seconds after which somebody who waits for the pod wants to know for what."""

_CHANGES: Mapping[str, Any] = {
    # Nothing of it is waited for: it may go to its node at once, and away whenever somebody deletes it.
    "metadata": {"finalizers": None},
    "spec": {
        "activeDeadlineSeconds": LONGEST,
        "schedulingGates": None,
        "terminationGracePeriodSeconds": _SOON,
        "containers": [
            {
                "name": STEP,
                "command": list(WAITS),
                **dict.fromkeys(("args", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe")),
            }
        ],
    },
}


def visit_in_pod(place: Reopened, operator: KubernetesStepOperator, say: Callable[[str], None]) -> int:
    """
    Run what somebody wants to run in a pod, on the terminal of this process, and remove the pod afterwards.

    :param say: told what is waited for, and what is not as it was
    :return: its exit code
    :raises StepFailure: if there can be no such pod, or it cannot be talked to
    """
    attempt, is_gone = place.attempt, True
    name = pod_name(attempt.id)
    try:
        core = client_of(operator.pod_keywords, f"step '{operator.task_id}'")
        with database_reachable(), _unheard():
            pod, secrets = _planned(place, operator, say)
        pods = connect(operator, attempt, seconds=_PATIENCE)
        try:
            create_with_secret(operator, attempt, pods, pod, secrets)
            _await_start(pods, name, operator.task_id, say)
            _drop_inputs(place)
            return _let_in(place, core, pods.namespace, name)
        finally:
            # A client of its own: whoever has gone may have gone in the middle of a request.
            pods.close()
            is_gone = _removed(connect(operator, attempt, seconds=_PATIENCE), name, say, has_secret=bool(secrets))
            _drop_inputs(place)
    finally:
        if is_gone:  # else the folder says where the pod is
            scratch.remove_scratch(attempt.workspace)


@contextmanager
def _unheard() -> Iterator[None]:
    """Within, what is logged to the standard output goes nowhere: that is the command's own, and the provider says there which pod it builds."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _planned(
    place: Reopened, operator: KubernetesStepOperator, say: Callable[[str], None]
) -> tuple[Any, dict[str, str]]:
    """The pod, and what its secret holds."""
    attempt = place.attempt
    invocation = attempt.invocation
    assert invocation is not None  # noqa: S101 - made when the place was opened
    attempt.invocation = replace(invocation, image=_image(place, operator, say))
    credentials, brought = bring_files(operator, attempt)
    files = files_of(operator, attempt, brought, credentials, place.seal_key)
    files = replace(files, init_containers=[one for one in files.init_containers if one["name"] != STAGE_OUT])
    manifest = merged(manifest_of(operator, attempt, files), _user_of(place))
    manifest = merged(merged(manifest, patch_of(operator)), _CHANGES)
    pod = completed(operator, attempt, manifest, hook_of(operator.pod_keywords))
    check_pod(operator, attempt.settings, as_manifest(pod))
    return pod, secret_keys(attempt, credentials)


def _image(place: Reopened, operator: KubernetesStepOperator, say: Callable[[str], None]) -> str | None:
    """The very image that the step ran, where a registry has given it a digest."""
    invocation = place.attempt.invocation
    ran = invocation.image if invocation else None
    if ran is None or ran == operator.image or "@sha256:" in ran:
        return ran or operator.image
    say(f"the image that the step ran is known to its node alone ({ran[:19]}); this is what is called {operator.image}")
    return operator.image


def _user_of(place: Reopened) -> dict[str, Any]:
    """The user that the step's pod had, who may be another one than this person's pods would have."""
    user = place.user
    if user is None or not user.isdecimal():
        return {}
    group = NOBODY if int(user) == NOBODY else group_of_pods()
    return {"spec": {"securityContext": {"runAsUser": int(user), "runAsGroup": group, "fsGroup": group}}}


def _await_start(pods: Pods, name: str, task_id: str, say: Callable[[str], None]) -> None:
    said, began = None, time.monotonic()
    for pod in pods.follow(name, lambda: _SAYS_WHY_AFTER):
        if pod is None:
            raise InfrastructureFailure(f"step '{task_id}': pod {name} was deleted before somebody could look around")
        status = status_of(pod, task_id)
        if status.failure is not None:
            raise status.failure
        if status.started is not None:
            return
        if status.is_over:
            raise InfrastructureFailure(
                f"step '{task_id}': pod {name} has ended before somebody could look around; its image must have the programs sh, sleep and cat"
            )
        if status.waits_for != said and time.monotonic() - began > _SAYS_WHY_AFTER:
            said = status.waits_for
            say(f"waiting: {said}")


def _let_in(place: Reopened, core: CoreV1Api, namespace: str, name: str) -> int:
    task_id, terminal = place.operator.task_id, place.terminal
    with ExitStack() as open_ones:
        keeper = Session(core, namespace, name, ENDS_WITH_VISITOR, terminal=False, task_id=task_id)
        open_ones.callback(keeper.close)
        session = Session(core, namespace, name, place.argv, terminal=terminal, task_id=task_id)
        open_ones.callback(session.close)
        return on_terminal(session, keeper, terminal=terminal)


def _drop_inputs(place: Reopened) -> None:
    """Remove the copies of inputs that only this machine could reach: the pod has them, or never will."""
    attempt = place.attempt
    if attempt.store.local_path(attempt.key) is None:
        drop_local_inputs(attempt.store, attempt.key)


def _removed(pods: Pods, name: str, say: Callable[[str], None], *, has_secret: bool) -> bool:
    """Remove the pod; whether it is gone, or will be."""
    try:
        pods.delete(name, _SOON)
        until = time.monotonic() + _GONE_WITHIN
        for pod in pods.follow(name, lambda: 1.0):
            if pod is None:
                break
            if time.monotonic() > until:
                say(f"pod {pods.namespace}/{name} is still ending")
                break
        if has_secret:
            pods.delete_secret(name)
    except StepFailure as error:
        say(f"pod {pods.namespace}/{name} could not be removed, and airflow-mlops clean does that: {error}")
        return False
    finally:
        pods.close()
    return True
