# SPDX-License-Identifier: Apache-2.0
"""What a pod's state asks of whoever waits for it, as time goes by: one set of rules for a worker that waits and for the triggerer."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow_mlops.operators.failures import InfrastructureFailure, StepTimeout
from airflow_mlops.operators.kubernetes_state import Status, asked_to_end_after

OTHERS_END_WITHIN = 5.0
"""Seconds that other containers of a pod have to end when the program has."""

QUICK_END = 5
"""Seconds that what is left of a pod is given when nothing in it matters any more."""

NEVER = float("inf")


class Deed(enum.Enum):
    """What is to be done about a pod."""

    WAIT = "wait"
    TAKE = "take what its program has left: it has ended by itself"
    STOP = "stop its program, which has run for too long"
    END_OTHERS = "ask its other containers to end"


class Course:
    """
    The way of one pod from its creation to its end.

    :param task_id: of its step, for messages
    :param step_timeout: seconds that the program may run; ``None`` for no limit
    :param checkpoint: whether files are kept of a program that has failed, too
    :param start_patience: seconds that the program may take to start, ``[mlops] pod_start_patience``
    :param pull_patience: seconds that a registry may be away, ``[mlops] daemon_patience``
    :param say: called with each new reason for which a program does not start
    :param stopped_late: whether somebody has stopped the program already because its time was over
    """

    def __init__(
        self,
        task_id: str,
        *,
        step_timeout: float | None,
        checkpoint: bool,
        start_patience: float,
        pull_patience: float,
        say: Callable[[str], None],
        stopped_late: bool = False,
    ) -> None:
        self._task_id = task_id
        self._stopped_late = stopped_late
        self._timeout = step_timeout
        self._checkpoint = checkpoint
        self._start_patience = start_patience
        self._pull_patience = pull_patience
        self._say = say
        self._until = NEVER
        self._said: str | None = None
        self._pulls_since: float | None = None
        self._others_since: float | None = None

    def seconds_left(self) -> float:
        """For how long nothing needs to be looked at but the pod itself."""
        return self._until - time.time()

    def look(self, pod: Any, status: Status) -> Deed:
        """
        What a pod's state asks for now.

        :raises StepTimeout: if the program was stopped because its time was over
        :raises StepFailure: if something has happened around the program, so that nothing more comes of this pod
        """
        if status.failure is not None:
            if self._was_stopped_late(pod):
                raise self.timeout()
            raise status.failure
        if status.exit_code is None:
            return self._look_at_the_clock(pod, status)
        # Of a program that has failed nothing more is to come but its checkpoint.
        if status.is_over or (status.exit_code and not self._checkpoint):
            return Deed.TAKE
        return self._look_at_others() if status.others_run else Deed.WAIT

    def timeout(self) -> StepTimeout:
        """The failure of a step whose time was over."""
        return StepTimeout.after(self._task_id, timedelta(seconds=self._timeout or 0))

    def _was_stopped_late(self, pod: Any) -> bool:
        """Whoever stopped it may have died before saying so, but what Kubernetes notes tells the same, if the clocks agree."""
        ran = asked_to_end_after(pod)
        if ran is None or self._timeout is None:
            return False
        return self._stopped_late or ran.total_seconds() >= self._timeout

    def _look_at_others(self) -> Deed:
        """Files go out when all programs of the pod have ended, and some never do: a proxy, an agent. They have a while, and are then asked to."""
        now = time.monotonic()
        self._until = time.time() + OTHERS_END_WITHIN
        if self._others_since is None:
            self._others_since = now
        elif now - self._others_since > OTHERS_END_WITHIN and self._others_since != NEVER:
            self._others_since = NEVER
            return Deed.END_OTHERS
        return Deed.WAIT

    def _look_at_the_clock(self, pod: Any, status: Status) -> Deed:
        if status.started is not None and self._timeout is not None:
            self._until = status.started + self._timeout
            if time.time() >= self._until:
                return Deed.STOP
        if status.waits_for is not None:
            self._wait_for_the_start(pod, status)
        return Deed.WAIT

    def _wait_for_the_start(self, pod: Any, status: Status) -> None:
        if status.waits_for != self._said:
            self._said = status.waits_for
            self._say(str(status.waits_for))
        now = time.time()
        if status.is_leaving:
            return
        # A registry may have been needed for the first time just now.
        self._pulls_since = (self._pulls_since or now) if status.pulls else None
        option, patience = "pod_start_patience", self._start_patience
        since = pod.metadata.creation_timestamp.timestamp()
        if self._pulls_since is not None and self._pull_patience < patience:
            option, patience, since = "daemon_patience", self._pull_patience, self._pulls_since
        waited = now - since
        if waited > patience:
            raise InfrastructureFailure(
                f"step '{self._task_id}': its program has not started for {waited:.0f} s, longer than [mlops] {option} ({patience:g}): "
                f"{status.waits_for}"
            )
