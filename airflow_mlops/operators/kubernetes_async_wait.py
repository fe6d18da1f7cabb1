# SPDX-License-Identifier: Apache-2.0
"""How the triggerer waits for a pod: as a worker does, by the same rules, but beside hundreds of others in one thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_mlops.operators.failures import StepFailure
from airflow_mlops.operators.kubernetes_async import AsyncPod
from airflow_mlops.operators.kubernetes_course import NEVER, QUICK_END, Course, Deed
from airflow_mlops.operators.kubernetes_output import AsyncOutput
from airflow_mlops.operators.kubernetes_pod import UPLOAD_GRACE
from airflow_mlops.operators.kubernetes_state import has_run, status_of

if TYPE_CHECKING:
    from airflow_mlops.operators.kubernetes_trigger import PodTrigger


class AsyncWait:
    """
    The wait for one pod.

    :param trigger: whose wait it is; what is to be told of it goes into its report
    """

    def __init__(self, trigger: PodTrigger) -> None:
        self._trigger = trigger
        self._log = trigger.log
        self._pod = AsyncPod(
            trigger.cluster,
            trigger.namespace,
            trigger.name,
            seconds=trigger.daemon_patience,
            task_id=trigger.step,
            log=self._log,
        )
        self._output = AsyncOutput(self._pod, trigger.secrets, self._log)
        self._course = Course(
            trigger.step,
            step_timeout=trigger.step_timeout,
            checkpoint=trigger.checkpoint,
            start_patience=trigger.start_patience,
            pull_patience=trigger.daemon_patience,
            say=lambda reason: self._log.info("Waiting: %s", reason),
        )
        self._deadline = NEVER if trigger.execution_deadline is None else trigger.execution_deadline

    async def close(self) -> None:
        """End the wait, and close its connections."""
        self._trigger.report.shown = self._output.close()
        await self._pod.close()

    async def until_worth_a_look(self) -> None:
        """
        Wait until the pod is over, or something has happened to it.

        :raises ServiceAway: if the API server is away for too long
        """
        await self._follow()
        await self._output.finish()

    async def stop(self) -> None:
        """End the pod and let it go. Its node does the rest."""
        await self._pod.delete(self._trigger.grace)
        await self._pod.release()

    async def _follow(self) -> None:
        report = self._trigger.report
        async for pod in self._pod.follow(self._seconds_left):
            if pod is None:
                return
            status = status_of(pod, self._trigger.step)
            if has_run(pod):
                self._output.begin()
            if report.stopped_late:
                if status.is_over:
                    return
                continue
            if status.exit_code is None and time.time() >= self._deadline:
                report.overdue = True
                return
            try:
                deed = self._course.look(pod, status)
            except StepFailure:
                # The worker finds the same, and is who may say so.
                return
            if deed is Deed.TAKE:
                return
            await self._do(deed)

    async def _do(self, deed: Deed) -> None:
        if deed is Deed.END_OTHERS:
            self._log.info("Other containers of the pod run on although the program has ended; they are asked to end")
            await self._pod.delete(UPLOAD_GRACE)
        elif deed is Deed.STOP:
            self._log.info("The program has run longer than its timeout; it is stopped")
            await self._pod.delete(self._trigger.grace + (QUICK_END if self._trigger.checkpoint else 0))
            self._trigger.report.stopped_late = True

    def _seconds_left(self) -> float:
        if self._trigger.report.stopped_late:
            return NEVER
        return min(self._course.seconds_left(), self._deadline - time.time())
