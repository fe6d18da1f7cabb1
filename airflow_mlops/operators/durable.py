# SPDX-License-Identifier: Apache-2.0
"""Steps whose program outlives its worker: a container, a pod. The next try finds it and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.operators.adoption import ensure_supervised
from airflow_mlops.operators.base import StepOperator
from airflow_mlops.operators.failures import StepDetached, StepStopped

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt


class DurableStepOperator(StepOperator):
    """What the runtimes of such programs share."""

    def check_in(self, attempt: Attempt) -> None:
        """Stop here if this process has nothing to say any more."""
        ensure_supervised(attempt)
        if self._detached:
            raise StepDetached(
                f"step '{self.task_id}': its worker shut down while its program ran, and the program goes on"
            )

    def ensure_wanted(self) -> None:
        """
        Stop here if Airflow wants the step to be stopped.

        :raises StepStopped: if so
        """
        if self._killed:
            raise StepStopped(f"step '{self.task_id}' was stopped because Airflow asked for it")

    def detaches(self, attempt: Attempt) -> bool:
        """Whether a worker that shuts down leaves the program to the next try."""
        return (self.on_drain or attempt.settings.on_drain) == "detach"
