# SPDX-License-Identifier: Apache-2.0
"""
The executor of an embedded Airflow: one forked supervisor a task, and the place where the scheduler's loop waits,
reports and ends.

Airflow imports this module by its name and makes the executor itself, so what a run hands to it lies on the class.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.executors.base_executor import BaseExecutor

from airflow_mlops.cli.embedded import children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_mlops.cli.embedded.watch import Watch

TICK = 0.2
"""Seconds between two looks while nothing happens."""

IDLE = 1.0
"""Seconds between two loops of the scheduler while nothing can change but tasks that run; a loop costs 30 ms."""

_DISMISSAL = 0.03
_LINGER = 0.15
_KILLED = 5.0
_PATIENCE = 3.0
_fork = multiprocessing.get_context("fork")


@dataclass
class _Supervised:
    key: Any
    process: Any
    over_since: float | None = None


class RunExecutor(BaseExecutor):
    """
    Runs the tasks of one run on this machine and raises ``SystemExit`` out of the scheduler's loop when the run has
    ended.

    What it reports of a task is what LocalExecutor reports: success when the supervisor came to its end, whatever
    became of the task.
    """

    is_local = True
    watch: ClassVar[Watch]
    api: ClassVar[Any]

    def start(self) -> None:
        """Called by the scheduler before its loop."""
        self._supervised: list[_Supervised] = []
        self._triggerer: Any = None
        self._launched = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)

    def _process_workloads(self, workload_items: Iterable[Any]) -> None:
        for workload in workload_items:
            key = workload.ti.key
            self.queued_tasks.pop(key)
            self.running.add(key)
            self.watch.logs[key.task_id, key.map_index, key.try_number] = workload.log_path
            with _signals_held():
                process = self._fork(children.supervisor, workload, self.api, self._wake)
                self._supervised.append(_Supervised(key, process))
            self._launched = True

    def sync(self) -> None:
        """
        Once in every loop of the scheduler: report, end the loop when the run is over, and wait until something happens
        that the scheduler has to act on.

        :raises SystemExit: as Airflow's own signal handlers do to end the loop
        """
        self._settle()
        if self.watch.stirred and not self._launched:
            return  # the scheduler may have more to do: a skipped task is seen by the next one in the next loop
        self._launched = False
        give_back = time.monotonic() + (TICK if self.watch.restless else IDLE)
        while (left := give_back - time.monotonic()) > 0:
            self._wait(min(TICK, left))
            if self._settle() or self.watch.stirred:
                return

    def end(self) -> None:
        """
        Stop what still runs: nothing after a run that ended, all of it after Ctrl-C, a timeout or a failure of the
        scheduler.

        Tasks get SIGTERM, on which Airflow calls ``on_kill``, again each second, since a task that is just starting
        misses the first; after half a minute, or a second Ctrl-C, SIGKILL.
        """
        impatient: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: impatient.append(number))
        if self._triggerer is not None:
            self._triggerer.terminate()
        started, hard_since = time.monotonic(), None
        signalled = 0.0
        while self._supervised:
            now = time.monotonic()
            if hard_since is None and (impatient or now - started > children.GRACE):
                hard_since, signalled = now, 0.0
            if now - signalled >= 1:
                self._signal(signal.SIGKILL if hard_since else signal.SIGTERM)
                signalled = now
            if hard_since and now - hard_since > _KILLED:
                self._kill()
            wait([item.process.sentinel for item in self._supervised], TICK)
            self._reap()
            self.watch.look()
        self._end_triggerer()

    def terminate(self) -> None:
        """Airflow's name for an end without patience."""
        self.end()

    def _settle(self) -> bool:
        """Look what has happened since, and end the run when it is over; true if a supervisor has ended."""
        reaped = self._reap()
        self.watch.look()
        if self.watch.deferred and self._triggerer is None:
            with _signals_held():
                self._triggerer = self._fork(children.triggerer, self.api)
        if self.watch.verdict is not None:
            self._dismiss()
            if not self._supervised:
                raise SystemExit(0)
        elif self.watch.late or self.watch.problem is not None:
            raise SystemExit(0)
        return reaped

    def _wait(self, seconds: float) -> None:
        """Wait for a supervisor to end, or to change its task's state, which it tells by the pipe."""
        patience = _DISMISSAL if self.watch.verdict is not None else seconds
        if self._woken in wait([self._woken, *(item.process.sentinel for item in self._supervised)], patience):
            os.read(self._woken, 65536)

    def _reap(self) -> bool:
        over = [item for item in self._supervised if not item.process.is_alive()]
        self._supervised = [item for item in self._supervised if item not in over]
        for item in over:
            # A task that was deferred and has been resumed has a second supervisor: it is not over yet.
            if not any(other.key == item.key for other in self._supervised):
                (self.success if item.process.exitcode == 0 else self.fail)(item.key)
        return bool(over)

    def _dismiss(self) -> None:
        """
        Kill supervisors that have nothing left to do, when the run is over.

        One whose task's pipes closed a moment before its exit sleeps out a heartbeat interval before it looks again;
        state and log are complete.
        """
        now = time.monotonic()
        for item in self._supervised:
            if not children.task_is_over(item.process.pid):
                item.over_since = None
            elif item.over_since is None:
                item.over_since = now
            elif now - item.over_since > _LINGER:
                item.process.kill()

    def _signal(self, number: int) -> None:
        for item in self._supervised:
            children.signal_tasks(item.process.pid, number)

    def _kill(self) -> None:
        for item in self._supervised:
            item.process.kill()

    def _end_triggerer(self) -> None:
        if self._triggerer is not None:
            # It has nothing to finish after a run that ended, and takes seconds for it.
            self._triggerer.join(0 if self.watch.verdict else _PATIENCE)
            children.signal_tasks(self._triggerer.pid, signal.SIGKILL)
            self._triggerer.kill()
            self._triggerer.join()
            self._triggerer = None

    def _fork(self, target: Callable[..., Any], *arguments: Any) -> Any:
        """Start a child; signals are held by whoever puts it on its list."""
        process = _fork.Process(target=target, args=arguments)
        process.start()
        return process


@contextmanager
def _signals_held() -> Iterator[None]:
    """
    Hold Ctrl-C back until a child is on the list of those to be ended; the child lets signals in when it is ready for
    them.
    """
    held = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
