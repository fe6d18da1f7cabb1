# SPDX-License-Identifier: Apache-2.0
"""
What the Airflow of a deployment says of task instances, read from its database.

It alone can say that a task is over. That it does not know one proves nothing: the run may have been deleted, or the database be another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.progress import step_name


class Task(NamedTuple):
    """A task instance, whatever its try."""

    dag: str
    run: str
    task: str
    map_index: int

    def __str__(self) -> str:
        return f"{self.dag} {self.run} {step_name(self.task, self.map_index)}"


@dataclass(frozen=True, slots=True)
class TaskState:
    """
    How a task instance is.

    :param ended: when it came to be so, if it is over
    """

    state: str
    ended: datetime | None


def ask_airflow(tasks: Iterable[Task]) -> dict[Task, TaskState]:
    """
    States of the task instances that Airflow knows.

    :raises CommandError: if its database cannot be read
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    over = {str(state) for state in State.finished}
    wanted = set(tasks)
    found: dict[Task, TaskState] = {}
    columns = (
        TaskInstance.task_id,
        TaskInstance.map_index,
        TaskInstance.state,
        TaskInstance.end_date,
        TaskInstance.updated_at,
    )
    try:
        with create_session() as session:
            for dag, run in sorted({(task.dag, task.run) for task in wanted}):
                query = select(*columns).where(TaskInstance.dag_id == dag, TaskInstance.run_id == run)
                for task_id, map_index, state, end, updated in session.execute(query):
                    known = Task(dag, run, task_id, map_index)
                    if known in wanted:
                        word = str(state) if state is not None else "none"
                        moments = [moment for moment in (end, updated) if moment is not None]
                        found[known] = TaskState(word, max(moments, default=None) if word in over else None)
    except SQLAlchemyError as error:
        raise CommandError(
            f"Airflow's database cannot be read: {str(error).splitlines()[0]}; expected a host on which `airflow db check` works"
        ) from error
    return found
