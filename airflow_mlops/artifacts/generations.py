# SPDX-License-Identifier: Apache-2.0
"""
The rule by which a try finds the generation it belongs to: ``docs/state-model.md`` as a pure function.

A retry goes on with the generation of the try before it, and a clear begins a new one; Airflow's numbers alone do not
tell the two apart in every case, so a try compares itself with the newest claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from airflow_mlops.artifacts.errors import Replaced
from airflow_mlops.artifacts.manifest import Document


class Try(BaseModel):
    """
    What a try knows about itself.

    :param id: ``ti.id``, a UUID of version 7: those of later tries are greater
    :param max_tries: ``ti.max_tries``, which a clear changes and nothing else
    :param retries: the task's, from the DAG file as it was parsed at this try
    :param clears: ``dag_run.clear_number``
    :param run_started: ``dag_run.start_date``, seconds since the epoch
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str
    map_index: int
    try_number: int
    max_tries: int
    retries: int
    clears: int
    run_started: float


class Claim(Document):
    """
    What a try leaves in its claim file.

    :param generation: number of the first try of its generation
    :param incarnation: 0, or how many runs had the same run id before its own
    :param at: when the claim was laid, seconds since the epoch
    """

    title: ClassVar[str] = "the claim"
    limit: ClassVar[int] = 4096

    by: Try
    generation: int
    incarnation: int
    at: float


def first_try(max_tries: int, retries: int, try_number: int, after: int = 0) -> int:
    """
    Number of the first try of the current order to run a task instance, as far as Airflow's numbers tell.

    :param retries: of the DAG file as it was parsed at this try
    :param after: highest try number known to belong to an earlier generation
    """
    first = max_tries - retries + 1
    return first if after < first <= try_number else try_number


def generation_of(now: Try, last: Claim | None, committed: Callable[[], bool]) -> tuple[int, int]:
    """
    Generation and incarnation of a try.

    :param last: the newest claim laid to this iteration of the step: highest incarnation, then highest try
    :param committed: asked, if it matters, whether the generation of ``last`` has a manifest
    :raises Replaced: if the newest claim is a later try's
    """
    if last is None:
        return first_try(now.max_tries, now.retries, now.try_number), 0
    if last.by.id == now.id:  # back from a deferral or a reschedule
        return last.generation, last.incarnation
    same_order = last.by.max_tries == now.max_tries
    if last.by.map_index == now.map_index and last.by.try_number >= now.try_number and last.by.id > now.id:
        raise Replaced(
            f"try {now.try_number} was replaced by try {last.by.try_number} of the same task (id {last.by.id}); "
            "nothing of it counts any more"
        )
    if (
        last.by.map_index != now.map_index  # the list of a mapped task changed
        or last.by.try_number >= now.try_number  # the run was deleted and made again
        or (same_order and last.by.clears == now.clears and last.at < now.run_started)  # the same, its first try unseen
    ):
        return first_try(now.max_tries, now.retries, now.try_number), last.incarnation + 1
    if not same_order:  # cleared
        return first_try(now.max_tries, now.retries, now.try_number, last.by.try_number), last.incarnation
    if last.by.clears == now.clears:  # nothing was cleared: a retry, whatever the file says by now
        return last.generation, last.incarnation
    undisturbed = now.max_tries - now.retries + 1 == last.generation and not committed()
    return (last.generation if undisturbed else now.try_number), last.incarnation
