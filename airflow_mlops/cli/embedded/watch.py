# SPDX-License-Identifier: Apache-2.0
"""
What the scheduler is doing, told to the caller: differences of the run's rows in the database, and reasons why
nothing happens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.embedded.model import EXPANDED, WAITING, OnEvent, OnQuestion, OnTick, TaskEvent, TaskResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

STALLED = 10.0
"""Seconds without anything queued or running after which a task that could run is called waiting."""

_BUSY = {"queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"}
_RESTLESS = {"scheduled", "restarting", "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule"}
_UNDER_WAY = {"queued", "running"}
_ENDED = {"success", "failed"}

Key = tuple[str, int]


@dataclass(frozen=True)
class _Row:
    state: str
    try_number: int
    trigger: str

    @property
    def waits_for_somebody(self) -> bool:
        """Whether the task has asked people something; before Airflow 3.3, the triggerer looks for the answer."""
        return self.state == "awaiting_input" or (self.state == "deferred" and self.trigger.endswith("HITLTrigger"))


class Watch:
    """
    The eyes of a run: looked through once in every loop of the scheduler.

    :param dag_id: the DAG
    :param run_id: the run
    :param on_event: told of each difference
    :param on_tick: called at each look
    :param on_question: called at each look while a task waits for somebody's answer
    :param deadline: ``time.monotonic()`` after which :attr:`late` is true
    """

    def __init__(
        self,
        dag_id: str,
        run_id: str,
        on_event: OnEvent,
        on_tick: OnTick,
        on_question: OnQuestion,
        deadline: float | None,
    ) -> None:
        self._dag_id, self._run_id = dag_id, run_id
        self._on_event, self._on_tick, self._on_question = on_event, on_tick, on_question
        self._asking = False
        self._deadline = deadline
        self._seen: dict[Key, _Row] = {}
        self._said: set[tuple[str, int, str]] = set()
        self._moved = time.monotonic()
        self._changed = False
        self.verdict: str | None = None
        self.stirred = False
        self.problem: Exception | None = None
        self.logs: dict[tuple[str, int, int], str] = {}

    @property
    def late(self) -> bool:
        """Whether the run has used up its time."""
        return self._deadline is not None and time.monotonic() > self._deadline

    @property
    def restless(self) -> bool:
        """Whether something may change that no process of ours tells: a delay runs out, a trigger fires."""
        states = {row.state for row in self._seen.values()}
        return bool(states & _RESTLESS) or not states & _UNDER_WAY

    @property
    def deferred(self) -> bool:
        """Whether a task waits for a trigger."""
        return any(row.state == "deferred" for row in self._seen.values())

    def look(self) -> None:
        """
        Tell the caller what is new, and note in :attr:`stirred` whether the scheduler has to go on from it.

        An exception of the caller's is kept in :attr:`problem`, and nothing more is told: the scheduler would take it
        for one of its own.
        """
        self.stirred = self._changed = False
        state, rows = self._read()
        try:
            self._differences(rows)
            self._reasons(rows, state)
            self._on_tick()
            self._questions(rows)
        except Exception as error:
            self._on_event, self._on_tick, self._on_question = (
                lambda event: None,
                lambda: None,
                lambda question: None,
            )
            self.problem = self.problem or error
        self._seen = rows
        if state in _ENDED and self.verdict is None:
            self.verdict, self.stirred = state, True

    def results(self, run_dir: Path, order: Sequence[str]) -> tuple[TaskResult, ...]:
        """
        How all tasks stand.

        :param order: task ids in the order in which results are given
        """
        rank = {task_id: number for number, task_id in enumerate(order)}
        results = [self._result(run_dir, *values) for values in self._read_results()]
        return tuple(
            sorted(results, key=lambda task: (rank.get(task.task_id, len(rank)), task.task_id, task.map_index))
        )

    def _result(self, run_dir: Path, ti: Any, returned: Any) -> TaskResult:
        relative = self.logs.get((ti.task_id, ti.map_index, ti.try_number))
        log_path = run_dir / "logs" / relative if relative else None
        return TaskResult(
            task_id=ti.task_id,
            map_index=ti.map_index,
            state=_text(ti.state),
            try_number=ti.try_number,
            start=ti.start_date,
            end=ti.end_date,
            log_path=log_path if log_path and log_path.exists() else None,
            returned=returned,
        )

    def _differences(self, rows: dict[Key, _Row]) -> None:
        for key, row in rows.items():
            before = self._seen.get(key)
            if before is None or (before.state, before.try_number) != (row.state, row.try_number):
                self._tell(*key, row.state, row.try_number)
        for task_id, map_index in self._seen.keys() - rows.keys():
            self._tell(task_id, map_index, EXPANDED, 0)

    def _tell(self, task_id: str, map_index: int, state: str, try_number: int) -> None:
        self._changed = True
        self.stirred |= state not in _UNDER_WAY
        self._on_event(TaskEvent(task_id, map_index, state, try_number, datetime.now(UTC)))

    def _reasons(self, rows: dict[Key, _Row], state: str) -> None:
        now = time.monotonic()
        if self._changed or any(row.state in _BUSY for row in rows.values()):
            self._moved = now
        stalled = now - self._moved > STALLED and state not in _ENDED
        for key, row in rows.items():
            if reason := self._reason(row, stalled):
                self._wait(*key, row.try_number, reason)
        if stalled and not any(row.state in ("scheduled", "awaiting_input") for row in rows.values()):
            self._wait(
                "", -1, 0, f"no task could be started for {STALLED:g} s; airflow.log in the run's folder says more"
            )

    def _questions(self, rows: dict[Key, _Row]) -> None:
        """Have the oldest open question answered, or have it said that there is none any more."""
        from airflow_mlops.cli.embedded.questions import give, open_questions

        waiting = any(row.waits_for_somebody for row in rows.values())
        question = next(iter(open_questions(self._dag_id, self._run_id)), None) if waiting else None
        if question is None and not self._asking:
            return
        self._asking = question is not None
        reply = self._on_question(question)
        if question is not None and reply is not None:
            give(self._dag_id, self._run_id, question, reply)

    def _reason(self, row: _Row, stalled: bool) -> str | None:
        if row.waits_for_somebody:
            return "it waits for somebody's answer"
        if row.state == "scheduled" and stalled:
            return f"it is ready, and a limit of the DAG has kept it for {STALLED:g} s"
        return None

    def _wait(self, task_id: str, map_index: int, try_number: int, reason: str) -> None:
        if (task_id, map_index, reason) not in self._said:
            self._said.add((task_id, map_index, reason))
            self._on_event(TaskEvent(task_id, map_index, WAITING, try_number, datetime.now(UTC), reason))

    def _read(self) -> tuple[str, dict[Key, _Row]]:
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance as TI
        from airflow.models.trigger import Trigger
        from airflow.utils.session import create_session
        from sqlalchemy import select

        tasks = (
            select(TI.task_id, TI.map_index, TI.state, TI.try_number, Trigger.classpath)
            .outerjoin(Trigger, TI.trigger_id == Trigger.id)
            .where(TI.dag_id == self._dag_id, TI.run_id == self._run_id)
        )
        run = select(DagRun.state).where(DagRun.dag_id == self._dag_id, DagRun.run_id == self._run_id)
        with create_session() as session:
            rows = {
                (task_id, map_index): _Row(_text(state), try_number or 0, classpath or "")
                for task_id, map_index, state, try_number, classpath in session.execute(tasks)
            }
            return _text(session.scalar(run)), rows

    def _read_results(self) -> Iterator[tuple[Any, Any]]:
        from airflow.models.taskinstance import TaskInstance as TI
        from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        tasks = select(TI).where(TI.dag_id == self._dag_id, TI.run_id == self._run_id)
        returned = select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
            XComModel.dag_id == self._dag_id, XComModel.run_id == self._run_id, XComModel.key == XCOM_RETURN_KEY
        )
        with create_session() as session:
            values = {(task_id, map_index): value for task_id, map_index, value in session.execute(returned)}
            for ti in session.scalars(tasks):
                yield ti, values.get((ti.task_id, ti.map_index))


def _text(state: Any) -> str:
    return "none" if state is None else str(getattr(state, "value", state))
