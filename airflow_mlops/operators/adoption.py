# SPDX-License-Identifier: Apache-2.0
"""
Go on with what an earlier try of the same generation started: its worker died, its program did not.

What may be gone on with is told by the labels of the container; whether it is what this try would start, by the seal that was written
before it was. See ``docs/state-model.md``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlops.artifacts import ArtifactError, DocumentInvalid, NotFound, Seal, all_generations
from airflow_mlops.artifacts.attempts import attempts_of, is_kept, was_kept
from airflow_mlops.operators import scratch
from airflow_mlops.operators.budgets import has_failed
from airflow_mlops.operators.failures import Superseded
from airflow_mlops.operators.ownership import owns

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.resolve import ResolvedInputs

STOPPED = "stopped.json"
"""Beside an attempt's seal: it was asked to stop, so that its end says nothing of its program."""


def adopt(operator: StepOperator, attempt: Attempt, inputs: ResolvedInputs, resolve: Callable[[], Seal]) -> Seal | None:
    """
    Make the attempt the one that an earlier try started, if there is one and it is what this try would start.

    :param resolve: renders everything for the attempt as it is then, and seals it
    :return: the seal it was started with; ``None`` if a new attempt is to begin
    :raises StepFailure: if the runtime cannot be asked
    """
    earlier = operator.clear_earlier(attempt)
    if earlier is None:
        return None
    fresh = attempt.id
    attempt.become(earlier, adopted=True)
    attempt.make()
    operator.recall_files(attempt, inputs)
    seal, sealed = resolve(), _seal_of(attempt)
    if sealed is not None and sealed.run.starter == attempt.identity.ti_id:
        # It was this very try, which has waited for it elsewhere: what was edited meanwhile is for the next one.
        return sealed
    if sealed is not None and sealed.step == seal.step:
        operator.log.info("Adopted attempt %s of try %s; this try follows it to its end", attempt.id, sealed.run.try_)
        return sealed
    operator.log.warning(
        "Attempt %s of an earlier try is not what this try would start; it is stopped, and a new one begins",
        attempt.id,
    )
    operator.forget_program(attempt)
    attempt.discard()
    attempt.close()
    attempt.become(fresh, adopted=False)
    return None


def is_worth_going_on(
    attempt: Attempt, *, earlier: str | None, generation: str | None, incarnation: str | None, started_by: str | None
) -> bool:
    """
    Whether what an earlier try started is of this generation, and neither failed nor was stopped by a try that said so.

    :param earlier: id of its attempt; as the other three, a label of what was found
    :param started_by: number of the try that started it
    """
    identity, store = attempt.identity, attempt.store
    if (generation, incarnation) != (str(identity.generation), str(identity.incarnation)):
        return False
    key = identity.place.attempt_key(str(earlier))
    return not has_failed(store, identity.place, int(str(started_by))) and not store.exists(f"{key}/{STOPPED}")


def is_kept_evidence(attempt: Attempt, *, earlier: str, generation: str, incarnation: str) -> bool:
    """Whether an attempt of the same task, of whatever generation, is kept for a person to look at."""
    its = replace(attempt.identity.place, generation=int(generation), incarnation=int(incarnation))
    return is_kept(attempt.store, its, earlier)


def may_touch(attempt: Attempt) -> bool:
    """
    Whether this process may stop, remove or delete what belongs to the attempt: its supervisor lives, and no other try has begun.
    """
    return os.getppid() == attempt.parent and owns(attempt)


def ensure_supervised(attempt: Attempt) -> None:
    """
    Stop here if the supervisor has died: Airflow hears nothing more from this process, and another try will follow the program.

    :raises Superseded: if so
    """
    if os.getppid() != attempt.parent:
        raise Superseded(
            f"step '{attempt.identity.task_id}': the supervisor of this try is gone, so it ends without touching anything"
        )


def mark_stopped(attempt: Attempt) -> None:
    """Note that a program is stopped on purpose: the next try must not take its end for its own doing."""
    with suppress(ArtifactError, OSError):
        attempt.store.put_if_absent(f"{attempt.key}/{STOPPED}", b"{}\n")


def clear_dead(operator: StepOperator, attempt: Attempt) -> None:
    """Remove the folders of attempts of this generation that nobody goes on with: their workers died."""
    store, place = attempt.store, attempt.identity.place
    for name in attempts_of(store, place):
        if name != attempt.id and not is_kept(store, place, name):
            operator.log.info("Removing attempt %s, whose worker died", name)
            store.delete_tree(place.attempt_key(name))
            scratch.remove_scratch(attempt.workspace.with_name(f"mlops-{name}"))


def clear_evidence(attempt: Attempt) -> None:
    """Remove what failed attempts of this task left, of whatever generation, where the time that it was kept for is over."""
    store = attempt.store
    for place in all_generations(store, attempt.identity.place):
        for name in attempts_of(store, place):
            if was_kept(store, place, name) and not is_kept(store, place, name):
                store.delete_tree(place.attempt_key(name))
                scratch.remove_scratch(attempt.workspace.with_name(f"mlops-{name}"))


def clean_up(operator: StepOperator, attempt: Attempt, *, discard: bool) -> None:
    """
    Remove an attempt's program and scratch folder when it is over, unless others have it by now. Best effort: what is left is removed by the
    next try, or by ``clean``.

    :param discard: whether what it wrote goes, too
    """
    try:
        if not may_touch(attempt):
            return
        operator.forget_program(attempt)
        if discard:
            attempt.discard()
        attempt.close()
    except Exception as error:  # noqa: BLE001 - how a step ended must not depend on what is left of it
        operator.log.warning("Something of attempt %s is left behind: %s", attempt.id, error)


def _seal_of(attempt: Attempt) -> Seal | None:
    try:
        return Seal.from_bytes(attempt.store.read(f"{attempt.key}/step.json", Seal.limit))
    except (NotFound, DocumentInvalid):
        # A store that is away says nothing of the seal, and is no reason to end what runs.
        return None
