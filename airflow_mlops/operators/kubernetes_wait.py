# SPDX-License-Identifier: Apache-2.0
"""How a pod is waited for: each change of it is looked at as it comes, its output is followed beside that, and some waits have an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlops.operators.adoption import mark_stopped
from airflow_mlops.operators.failures import InfrastructureFailure, StepTimeout
from airflow_mlops.operators.kubernetes_logs import Follower
from airflow_mlops.operators.kubernetes_pod import UPLOAD_GRACE
from airflow_mlops.operators.kubernetes_state import Status, status_of
from airflow_mlops.operators.ownership import ensure_owner

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.operators.kubernetes_api import Pods

QUICK_END = 5
"""Seconds that what is left of a pod is given when nothing in it matters any more."""

OTHERS_END_WITHIN = 5.0
"""Seconds that other containers of a pod have to end when the program has."""

_NEVER = float("inf")


class Wait:
    """
    The wait for the end of one pod's program.

    :param name: of the pod
    """

    def __init__(self, operator: KubernetesStepOperator, attempt: Attempt, pods: Pods, name: str) -> None:
        self._operator = operator
        self._attempt = attempt
        self._pods = pods
        self._name = name
        self._timeout = operator.step_timeout.total_seconds() if operator.step_timeout else None
        self._deadline = _NEVER
        self._follower: Follower | None = None
        self._said: str | None = None
        self._pulls_since: float | None = None
        self._others_since: float | None = None

    def await_end(self) -> tuple[Any, Status]:
        """
        Wait until the program has ended by itself and its files are where they belong.

        :return: the pod, and what its status says
        :raises StepFailure: if something else happened
        """
        operator = self._operator
        try:
            for pod in self._pods.follow(self._name, lambda: self._deadline - time.time()):
                operator.ensure_wanted()
                operator.check_in(self._attempt)
                if pod is None:
                    raise InfrastructureFailure(
                        f"step '{operator.task_id}': its pod {self._name} is gone, and its exit code was not read: somebody took its finalizer off"
                    )
                status = status_of(pod, operator.task_id)
                if status.failure is not None:
                    raise status.failure
                self._show_output(status)
                if status.exit_code is None:
                    self._look_at_the_clock(pod, status)
                elif status.is_over or (status.exit_code and not operator.checkpoint):
                    # Of a program that has failed nothing more is to come but its checkpoint.
                    return pod, status
                elif status.others_run:
                    self._end_others()
            raise AssertionError("a pod is followed until it is gone")
        finally:
            if self._follower is not None:
                self._follower.finish(0 if operator._killed or operator._detached else 600)

    def _end_others(self) -> None:
        """Files go out when all programs of the pod have ended, and some never do: a proxy, an agent. They have a while, and are then asked to."""
        now = time.monotonic()
        if self._others_since is None:
            self._others_since = now
        elif now - self._others_since > OTHERS_END_WITHIN and self._others_since != _NEVER:
            self._others_since = _NEVER
            self._operator.log.info(
                "Other containers of the pod run on although the program has ended; they are asked to end"
            )
            self._pods.delete(self._name, UPLOAD_GRACE)
        self._deadline = time.time() + OTHERS_END_WITHIN

    def _show_output(self, status: Status) -> None:
        if self._follower is not None:
            self._follower.look_after()
        elif status.started is not None or status.exit_code is not None:
            lines, pods = self._operator.line_log(self._attempt), self._pods
            self._follower = Follower(lambda: pods.core, pods.namespace, self._name, lines, self._operator.log)

    def _look_at_the_clock(self, pod: Any, status: Status) -> None:
        if status.started is not None and self._timeout is not None:
            self._deadline = status.started + self._timeout
            if time.time() >= self._deadline:
                self._stop_late()
        if status.waits_for is None:
            return
        if status.waits_for != self._said:
            self._said = status.waits_for
            self._operator.log.info("Waiting: %s", status.waits_for)
        settings, now = self._attempt.settings, time.time()
        if status.is_leaving:
            return
        # A registry may have been needed for the first time just now.
        self._pulls_since = (self._pulls_since or now) if status.pulls else None
        option, patience, since = (
            "pod_start_patience",
            settings.pod_start_patience,
            pod.metadata.creation_timestamp.timestamp(),
        )
        if self._pulls_since is not None and settings.daemon_patience < patience:
            option, patience, since = "daemon_patience", settings.daemon_patience, self._pulls_since
        waited = now - since
        if waited > patience:
            raise InfrastructureFailure(
                f"step '{self._operator.task_id}': its program has not started for {waited:.0f} s, longer than [mlops] {option} ({patience:g}): "
                f"{status.waits_for}"
            )

    def _stop_late(self) -> NoReturn:
        """
        Stop a program whose time is over.

        :raises StepTimeout: when it has ended
        """
        operator = self._operator
        ensure_owner(self._attempt)
        mark_stopped(self._attempt)
        self._pods.delete(self._name, operator.grace_seconds() + (QUICK_END if operator.checkpoint else 0))
        for pod in self._pods.follow(self._name, lambda: _NEVER):
            operator.check_in(self._attempt)
            if pod is None or status_of(pod, operator.task_id).is_over:
                break
        raise StepTimeout.after(operator.task_id, operator.step_timeout)
