# SPDX-License-Identifier: Apache-2.0
"""How a worker waits for a pod: each change of it is looked at as it comes, and its output is followed beside that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlops.operators.adoption import mark_stopped
from airflow_mlops.operators.failures import InfrastructureFailure
from airflow_mlops.operators.kubernetes_course import NEVER, QUICK_END, Course, Deed
from airflow_mlops.operators.kubernetes_logs import Follower
from airflow_mlops.operators.kubernetes_pod import UPLOAD_GRACE
from airflow_mlops.operators.kubernetes_state import Status, has_run, status_of
from airflow_mlops.operators.ownership import ensure_owner

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.operators.kubernetes_api import Pods
    from airflow_mlops.operators.kubernetes_trigger import Report


class Wait:
    """
    The wait for the end of one pod's program.

    :param name: of the pod
    :param report: what the triggerer says of it
    """

    def __init__(
        self, operator: KubernetesStepOperator, attempt: Attempt, pods: Pods, name: str, report: Report | None = None
    ) -> None:
        self._operator = operator
        self._attempt = attempt
        self._pods = pods
        self._name = name
        self._shown = report.shown if report is not None else None
        self._follower: Follower | None = None
        self._course = Course(
            operator.task_id,
            step_timeout=operator.step_timeout.total_seconds() if operator.step_timeout else None,
            checkpoint=operator.checkpoint,
            start_patience=attempt.settings.pod_start_patience,
            pull_patience=attempt.settings.daemon_patience,
            say=lambda reason: operator.log.info("Waiting: %s", reason),
            stopped_late=report is not None and report.stopped_late,
        )

    def await_end(self) -> tuple[Any, Status]:
        """
        Wait until the program has ended by itself and its files are where they belong.

        :return: the pod, and what its status says
        :raises StepFailure: if something else happened
        """
        operator = self._operator
        try:
            for pod in self._pods.follow(self._name, self._course.seconds_left):
                operator.ensure_wanted()
                operator.check_in(self._attempt)
                if pod is None:
                    raise gone(operator.task_id, self._name)
                status = status_of(pod, operator.task_id)
                self._show_output(pod)
                deed = self._course.look(pod, status)
                if deed is Deed.TAKE:
                    return pod, status
                if deed is Deed.STOP:
                    self._stop_late()
                if deed is Deed.END_OTHERS:
                    operator.log.info(
                        "Other containers of the pod run on although the program has ended; they are asked to end"
                    )
                    self._pods.delete(self._name, UPLOAD_GRACE)
            raise AssertionError("a pod is followed until it is gone")
        finally:
            if self._follower is not None:
                self._follower.finish(0 if operator._killed or operator._detached else 600)

    def _show_output(self, pod: Any) -> None:
        if self._follower is not None:
            self._follower.look_after()
        elif has_run(pod):
            lines, pods = self._operator.line_log(self._attempt), self._pods
            self._follower = Follower(
                lambda: pods.core, pods.namespace, self._name, lines, self._operator.log, self._shown
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
        for pod in self._pods.follow(self._name, lambda: NEVER):
            operator.check_in(self._attempt)
            if pod is None or status_of(pod, operator.task_id).is_over:
                break
        raise self._course.timeout()


def gone(task_id: str, name: str) -> InfrastructureFailure:
    """The failure of a step whose pod is not there any more."""
    return InfrastructureFailure(
        f"step '{task_id}': its pod {name} is gone, and its exit code was not read: somebody took its finalizer off"
    )
