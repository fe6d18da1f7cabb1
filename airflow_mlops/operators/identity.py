# SPDX-License-Identifier: Apache-2.0
"""Who a running task is: what its attempts are named, labelled and filed under. See ``docs/state-model.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlops.artifacts import Place

LABEL = "mlops"
MANAGED = f"{LABEL}.managed"


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    One try of one task instance of one Airflow.

    :param instance: id of the Airflow installation
    :param map_index: index of a mapped task, -1 for a plain one
    :param generation: number of the first try since the task was scheduled or cleared
    :param ti_id: Airflow's id of this try
    """

    instance: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    generation: int
    try_number: int
    ti_id: str

    @classmethod
    def of(cls, ti: Any, *, instance: str, retries: int) -> TaskIdentity:
        """
        Read the identity off a running task instance.

        :param ti: the task instance of the template context
        :param retries: the task's ``retries``, as the DAG file says at this try
        """
        return cls(
            instance=instance,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            generation=generation(ti.max_tries, retries, ti.try_number),
            try_number=ti.try_number,
            ti_id=str(ti.id),
        )

    @property
    def place(self) -> Place:
        """Where the store keeps what this generation makes."""
        return Place(
            instance=self.instance,
            pipeline=self.dag_id,
            run=self.run_id,
            step=self.task_id,
            iteration="-" if self.map_index < 0 else str(self.map_index),
            generation=self.generation,
        )

    def labels(self, attempt: str) -> dict[str, str]:
        """Labels that identify the container of an attempt."""
        return {
            **self.task_labels,
            f"{LABEL}.generation": str(self.generation),
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


def generation(max_tries: int, retries: int, try_number: int) -> int:
    """
    The number of the first try of the current order to run a task instance.

    A clear sets ``max_tries`` to the tries used so far plus ``retries``; a retry changes neither. So the difference is constant until the
    next clear. Where ``retries`` was edited in between it may lie outside of what is possible; then the try begins a generation of its own.
    ``docs/state-model.md`` has the cases that this cannot tell apart.
    """
    first = max_tries - retries + 1
    return first if 0 < first <= try_number else try_number
