# SPDX-License-Identifier: Apache-2.0
"""
Who owns a generation: the try whose claim is the newest. See ``docs/state-model.md``.

A try takes its generation before it does anything, and looks again before it stops, removes, commits or deletes anything: a
process that was slow or cut off finds here that it was replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.artifacts import lay_claim, newest_claim
from airflow_mlops.operators.failures import Superseded

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt

MOST_RACES = 5
"""How often in a row another process may be first; there are no more than a handful of tries at a time."""


def take(attempt: Attempt) -> None:
    """
    Make this try the owner of its generation. Where another run had the same run id, or another process was first, it is moved to the
    place that is its own.

    :raises Replaced: if a later try has claimed already
    :raises Superseded: if others were first again and again
    """
    for _ in range(MOST_RACES):
        identity = attempt.identity
        if lay_claim(attempt.store, identity.place, identity.claim()).by.id == identity.ti_id:
            return
        attempt.move(identity.placed(attempt.store))
    raise Superseded(
        f"try {attempt.identity.try_number} of '{attempt.identity.task_id}' in run '{attempt.identity.run_id}' found its place taken "
        f"{MOST_RACES} times in a row; look for several Airflows that use the same [mlops] instance and store"
    )


def owns(attempt: Attempt) -> bool:
    """Whether no other try has claimed since."""
    newest = newest_claim(attempt.store, attempt.identity.place)
    return newest is not None and newest.by.id == attempt.identity.ti_id


def ensure_owner(attempt: Attempt) -> None:
    """
    Stop here if another try has claimed since.

    :raises Superseded: if so
    """
    if not owns(attempt):
        identity = attempt.identity
        raise Superseded(
            f"step '{identity.task_id}': another try of it has begun, so this one (try {identity.try_number}) ends without touching anything"
        )
