# SPDX-License-Identifier: Apache-2.0
"""How a container's end is told: by its own state, on a clock of its own, never by its output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import ReadTimeout, RequestException

from airflow_mlops.operators.failures import InfrastructureFailure

if TYPE_CHECKING:
    from airflow_mlops.operators.docker_daemon import Patience

FIRST_LOOK, LONGEST_LOOK = 1.0, 30.0
"""Seconds that one request waits for the end; each one waits twice as long as the one before."""

_SIGKILL, _SIGTERM = 137, 143
_ENDED = ("exited", "dead")


@dataclass
class Watch:
    """
    A container that runs.

    :param patience: with the daemon
    :param deadline: of the monotonic clock, in seconds
    :param look: called after each request that did not see the end
    """

    patience: Patience
    container: str
    task_id: str
    deadline: float | None
    look: Callable[[], None]

    def await_end(self) -> dict[str, Any] | None:
        """
        Wait until the container has ended.

        :return: the container's ``State``; ``None`` if the deadline passed first
        :raises InfrastructureFailure: if the container was removed, or the daemon has been away for too long
        """
        pause = FIRST_LOOK
        while True:
            remaining = None if self.deadline is None else self.deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                # Nobody may have looked for a while: it may have ended long before.
                state = self.state()
                return state if _ended_by(state, time.time() + remaining) else None
            self._wait(pause if remaining is None else min(pause, max(remaining, 0.05)))
            state = self.state()
            if state["Status"] in _ENDED:
                return state
            self.look()
            pause = min(2 * pause, LONGEST_LOOK)

    def state(self) -> dict[str, Any]:
        """
        The container's ``State`` as the daemon has it.

        :raises InfrastructureFailure: if the container was removed
        """
        try:
            state: dict[str, Any] = self.patience.ask(lambda: self.patience.cli.inspect_container(self.container))[
                "State"
            ]
        except NotFound as error:
            raise InfrastructureFailure(
                f"step '{self.task_id}': its container {self.container[:12]} was removed by somebody else; nothing of what it did is left"
            ) from error
        return state

    def _wait(self, seconds: float) -> None:
        """Let the daemon say when the container has ended, for some time."""
        began = time.monotonic()
        try:
            self.patience.cli.wait(self.container, timeout=seconds)
        except ReadTimeout:
            return
        except NotFound:
            return
        except (DockerException, RequestException, OSError) as error:
            if isinstance(error, APIError) or "timed out" not in str(error).lower():
                self.patience.missed(error)
                # An answer that comes at once must not make this a loop without a pause.
                time.sleep(min(1.0, max(0.0, seconds - (time.monotonic() - began))))


def _ended_by(state: dict[str, Any], moment: float) -> bool:
    """Whether a container had ended by then; seconds since the epoch. The daemon's clock may differ by a second."""
    if state["Status"] not in _ENDED:
        return False
    finished = datetime.fromisoformat(f"{state['FinishedAt'][:19]}+00:00")
    return finished.timestamp() <= moment + 1


def was_killed_from_outside(state: dict[str, Any]) -> bool:
    """
    Whether a container ended by a signal that nobody of this step sent and that no program sends itself: the daemon was stopped, the
    host went down, or somebody stopped the container.
    """
    return not state.get("OOMKilled") and state["ExitCode"] in (_SIGKILL, _SIGTERM)
