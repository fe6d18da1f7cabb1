# SPDX-License-Identifier: Apache-2.0
"""What a request asks for: one generation of one task instance, by names that are checked and never used as a path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from airflow_mlops.artifacts import Place
from airflow_mlops.operators.links import query_of
from airflow_mlops.ui.problems import Problem

MAX_NAME = 1000
"""Characters of a name; Airflow takes 250."""

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")
_NEEDED = ("dag_id", "run_id", "task_id", "generation")
_OPTIONAL = ("map_index", "incarnation", "artifact")


@dataclass(frozen=True)
class Asked:
    """
    What was asked for.

    :param map_index: -1 for a task that is not mapped
    :param artifact: name of one artifact, if one is meant
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    generation: int
    incarnation: int
    artifact: str | None

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]]) -> Asked:
        """
        Read a query.

        :raises Problem: if a name is missing, unknown, or given twice: there must be no doubt which DAG is meant
        """
        names: dict[str, str] = {}
        for name, value in query:
            if name not in (*_NEEDED, *_OPTIONAL):
                raise _refused(f"it has a parameter {name[:40]!r}, which is not known")
            if name in names:
                raise _refused(f"it names {name} twice")
            if not 0 < len(value) <= MAX_NAME:
                raise _refused(f"its {name} is empty, or longer than {MAX_NAME} characters")
            names[name] = value
        if missing := [name for name in _NEEDED if name not in names]:
            raise _refused(f"it does not name {', '.join(missing)}")
        asked = cls(
            dag_id=names["dag_id"],
            run_id=names["run_id"],
            task_id=names["task_id"],
            map_index=_number(names, "map_index", -1),
            generation=_number(names, "generation", 0),
            incarnation=_number(names, "incarnation", 0),
            artifact=names.get("artifact"),
        )
        if asked.generation < 1:
            raise _refused("its generation is 0; the first is 1")
        return asked

    def place(self, instance: str) -> Place:
        """
        Where the store keeps it.

        :param instance: id of this Airflow
        """
        return Place.of_task(
            instance,
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            generation=self.generation,
            incarnation=self.incarnation,
        )

    def query(self, **more: str) -> str:
        """The query that asks for it, and for more."""
        return query_of(self.place(""), self.map_index, **more)

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.task_id if self.map_index < 0 else f"{self.task_id} [{self.map_index}]"

    @property
    def airflow_pages(self) -> dict[str, str]:
        """Airflow's own pages of the DAG, the run and the task instance, relative to its root."""
        dag = f"dags/{quote(self.dag_id, safe='', errors='replace')}"
        run = f"{dag}/runs/{quote(self.run_id, safe='', errors='replace')}"
        task = f"{run}/tasks/{quote(self.task_id, safe='', errors='replace')}"
        return {"dag": dag, "run": run, "task": task if self.map_index < 0 else f"{task}/mapped/{self.map_index}"}


def _number(names: dict[str, str], name: str, default: int) -> int:
    text = names.get(name)
    if text is None:
        return default
    if not _NUMBER.match(text):
        raise _refused(f"its {name} is {text[:40]!r}; expected a number")
    return int(text)


def _refused(why: str) -> Problem:
    return Problem(
        400,
        "This address is not complete",
        f"The address of this page cannot be used: {why}.",
        ("Open the page again by the link Artifacts of a task instance.",),
    )
