# SPDX-License-Identifier: Apache-2.0
"""
Patience with a service that goes away while a step's program runs: a restart, a broken network, a host that stands still.

What was asked is asked again for as long as the deployment says. So everything that is asked in this way may be done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from airflow_mlops.operators.failures import ServiceAway

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two questions; each pause is twice the one before."""


class Patience:
    """
    Ask a service until it answers, or until it has been away for too long. A runtime says which errors mean that it is away.

    :param seconds: how long it may be away
    :param check: called before each further question; ends the wait by raising
    """

    who: ClassVar[str]
    what: ClassVar[str]
    errors: ClassVar[tuple[type[BaseException], ...]]

    def __init__(
        self,
        seconds: float,
        *,
        task_id: str,
        log: Any,
        check: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._task_id = task_id
        self._log = log
        self._check = check
        self._clock = clock
        self._sleep = sleep
        self._away_since: float | None = None

    def is_away(self, error: BaseException) -> bool:
        """Whether an error means that the service is not there."""
        raise NotImplementedError

    def ask(self, question: Callable[[], T]) -> T:
        """
        Ask, again if need be.

        :raises ServiceAway: if the service has been away for too long
        :raises Exception: whatever a service that is there says
        """
        pause = FIRST_PAUSE
        while True:
            try:
                answer = question()
            except self.errors as error:
                if not self.is_away(error):
                    self.answered()
                    raise
                self.missed(error)
            else:
                self.answered()
                return answer
            self._check()
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def pause(self) -> None:
        """Wait before the next question, if there is still one to ask."""
        self._check()
        self._sleep(1.0)

    def missed(self, error: BaseException) -> None:
        """
        Note that the service did not answer.

        :raises ServiceAway: if it has not for too long
        """
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
            self._log.warning(
                "%s does not answer (%s); its %s is left alone, and it is asked again for up to %g s",
                self._who,
                error,
                self.what,
                self._seconds,
            )
        elif now - self._away_since > self._seconds:
            raise ServiceAway(
                f"step '{self._task_id}': {self.who} has not answered for {now - self._away_since:.0f} s, longer than "
                f"[mlops] daemon_patience ({self._seconds:g}): {error}; what runs in its {self.what} goes on, and the next try follows it"
            ) from error

    def answered(self) -> None:
        """Note that the service is there."""
        if self._away_since is not None:
            self._log.info("%s answers again after %.0f s", self._who, self._clock() - self._away_since)
            self._away_since = None

    @property
    def _who(self) -> str:
        return self.who[0].upper() + self.who[1:]
