# SPDX-License-Identifier: Apache-2.0
"""
What goes into a run and what comes out of it, as plain data: no Airflow here, so that commands which only look need
none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

OnEvent = Callable[["TaskEvent"], None]
OnTick = Callable[[], None]

WAITING = "waiting"
"""State of an event that says why nothing happens; see :class:`TaskEvent`."""

EXPANDED = "expanded"
"""State of an event for a mapped task whose place (map index -1) was taken by its mapped instances."""


class EmbeddedError(Exception):
    """The embedded Airflow could not do what was asked."""


class EmbeddedUnavailable(EmbeddedError):
    """This machine or this process cannot run an embedded Airflow at all."""


class DagRefused(EmbeddedError):
    """
    The DAG file does not import, holds no such DAG, or the DAG does not take this run; the text says which, with
    Airflow's own words.
    """


@dataclass(frozen=True)
class Question:
    """
    What a task has asked a person by Airflow's human-in-the-loop form, and has got no answer to.

    :param body: Markdown below the subject; may be empty
    :param options: the answers that may be given
    :param fields: names of further fields of the form
    """

    task_id: str
    map_index: int
    try_number: int
    subject: str
    body: str
    options: tuple[str, ...]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """
    An answer.

    :param option: the one that was chosen
    :param by: who chose it
    :param fields: values of further fields of the form
    """

    option: str
    by: str
    fields: Mapping[str, Any] = field(default_factory=dict)


OnQuestion = Callable[["Question | None"], "Reply | None"]
"""Called at each look while a question is open, with the oldest one, and with ``None`` when it is none any more; returns ``None`` while there is
no answer."""


@dataclass(frozen=True)
class RunRequest:
    """
    One run of one DAG.

    :param dag_source: text of the DAG file; it is written into the run's folder
    :param dag_id: which DAG of that file to run
    :param run_id: id of the run, in the form that Airflow allows
    :param conf: parameters of the run
    :param jobs: how many tasks run at a time; by default as many as there are cores, but at least four
    :param environment: variables set before Airflow is imported; they win over everything this package decides
    :param timeout: seconds after which the run is stopped as Ctrl-C would stop it
    """

    dag_source: str
    dag_id: str
    run_id: str
    conf: Mapping[str, Any] = field(default_factory=dict)
    jobs: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None


@dataclass(frozen=True)
class TaskEvent:
    """
    A task has reached another state. A task that is faster than the look that was taken skips states.

    :param task_id: id of the task; empty when the event is about the run as a whole
    :param map_index: which instance of a mapped task, else -1
    :param state: Airflow's task state, ``none`` before it has one; ``waiting`` when the task stands still for the
        ``reason``; ``expanded`` when mapped instances take the place of a task
    :param try_number: which try, 1 for the first; 0 before the first
    :param at: when it was seen
    :param reason: what a waiting task waits for, and what to do about it
    """

    task_id: str
    map_index: int
    state: str
    try_number: int
    at: datetime
    reason: str = ""


@dataclass(frozen=True)
class TaskResult:
    """
    How a task stands at the end of a run.

    :param state: Airflow's task state, ``none`` if it never had one
    :param start: when its last try started
    :param end: when its last try ended
    :param log_path: log of its last try, if it has one
    :param returned: its XCom ``return_value``
    """

    task_id: str
    map_index: int
    state: str
    try_number: int
    start: datetime | None
    end: datetime | None
    log_path: Path | None
    returned: Any = None


@dataclass(frozen=True)
class RunResult:
    """
    How a run ended.

    :param state: ``success``, ``failed``, ``interrupted`` (Ctrl-C, SIGTERM) or ``timeout``
    :param tasks: in the order of the DAG
    """

    state: str
    tasks: tuple[TaskResult, ...]

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped the run."""
        return self.state == "interrupted"
