# SPDX-License-Identifier: Apache-2.0
"""Who a running task is: what its attempts are named, labelled and filed under. See ``docs/state-model.md``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import Claim, Place, Try, find_committed, generation_of, newest_claim

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store

LABEL = "mlops"
MANAGED = f"{LABEL}.managed"

SHELL = f"{LABEL}.shell"
"""Label of a container that somebody looks around in."""

VISITOR = f"{LABEL}.visitor"
"""Label that names the process of whoever looks around."""


NO_LABELS = {
    f"{LABEL}.{name}": ""
    for name in (
        *("instance", "dag", "run", "task", "map-index", "generation", "incarnation", "attempt", "try", "starter"),
        *("deadline", "image-digest", "gpus", "role", "shell", "visitor"),
    )
}
"""A container inherits the labels of its image, which may have been made of a step's container. These say that it has none of them."""


def is_ours(container: Mapping[str, Any]) -> bool:
    """Whether a container with our labels was made by us: one of an image that was made of ours has our labels, and not our name."""
    attempt = container["Labels"].get(f"{LABEL}.attempt") or container["Labels"].get(SHELL)
    return f"mlops-{attempt}" in {name.lstrip("/") for name in container.get("Names") or ()}


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    One try of one task instance of one Airflow.

    :param instance: id of the Airflow installation
    :param current: what Airflow says about the try
    :param generation: number of the first try since the task was scheduled or cleared
    :param incarnation: 0, or how many deleted runs had the same run id before
    """

    instance: str
    dag_id: str
    run_id: str
    task_id: str
    current: Try
    generation: int = 1
    incarnation: int = 0

    @classmethod
    def of(cls, ti: Any, run: Any, *, instance: str, retries: int) -> TaskIdentity:
        """
        Read the identity off a running task instance. Its generation is known once it is :meth:`placed`.

        :param ti: the task instance of the template context
        :param run: the DAG run of the template context
        :param retries: the task's ``retries``, as the DAG file says at this try
        """
        started = getattr(run, "start_date", None)
        current = Try(
            id=str(ti.id),
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
            max_tries=ti.max_tries,
            retries=retries,
            clears=int(getattr(run, "clear_number", None) or 0),
            run_started=started.timestamp() if started is not None else 0.0,
        )
        return cls(instance=instance, dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, current=current)

    def placed(self, store: Store) -> TaskIdentity:
        """
        The same try with its generation, as the claims in the store tell. Nothing is written.

        :raises Replaced: if a later try has claimed already
        """
        last = newest_claim(store, self.place)

        def committed() -> bool:
            assert last is not None  # noqa: S101 - asked only about a claim that was found
            its = replace(self.place, generation=last.generation, incarnation=last.incarnation)
            return find_committed(store, its) is not None

        generation, incarnation = generation_of(self.current, last, committed)
        return replace(self, generation=generation, incarnation=incarnation)

    def claim(self) -> Claim:
        """The claim that this try lays to its generation, now."""
        return Claim(by=self.current, generation=self.generation, incarnation=self.incarnation, at=time.time())

    @property
    def map_index(self) -> int:
        """Index of a mapped task, -1 for a plain one."""
        return self.current.map_index

    @property
    def try_number(self) -> int:
        return self.current.try_number

    @property
    def ti_id(self) -> str:
        """Airflow's id of this try."""
        return self.current.id

    @property
    def begins_anew(self) -> bool:
        """Whether this is the first try since a clear, or of a run that was deleted and made again."""
        return self.try_number == self.generation and (self.generation > 1 or self.incarnation > 0)

    @property
    def place(self) -> Place:
        """Where the store keeps what this generation makes."""
        return Place.of_task(
            self.instance,
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            generation=self.generation,
            incarnation=self.incarnation,
        )

    def labels(self, attempt: str) -> dict[str, str]:
        """Labels that identify the container of an attempt."""
        return {
            **NO_LABELS,
            **self.task_labels,
            f"{LABEL}.generation": str(self.generation),
            f"{LABEL}.incarnation": str(self.incarnation),
            f"{LABEL}.attempt": attempt,
            f"{LABEL}.try": str(self.try_number),
            f"{LABEL}.starter": self.ti_id,
        }

    @property
    def task_labels(self) -> Mapping[str, str]:
        """Labels that all containers of this task instance share, whatever the try."""
        return {
            MANAGED: "true",
            f"{LABEL}.instance": self.instance,
            f"{LABEL}.dag": self.dag_id,
            f"{LABEL}.run": self.run_id,
            f"{LABEL}.task": self.task_id,
            f"{LABEL}.map-index": str(self.map_index),
        }
