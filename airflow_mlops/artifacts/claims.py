# SPDX-License-Identifier: Apache-2.0
"""
Claims: which try owns a generation.

Each try lays a claim before it does anything; the newest one owns. Whoever finds a newer claim than its own has been
replaced, and touches nothing any more.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import DocumentInvalid
from airflow_mlops.artifacts.generations import Claim

if TYPE_CHECKING:
    from airflow_mlops.artifacts.layout import Place
    from airflow_mlops.artifacts.store import Store

_CLAIM = re.compile(r"claim-([0-9]{1,9})\.json\Z")
_GENERATION = re.compile(r"([1-9][0-9]{0,8})(?:\.([1-9][0-9]{0,8}))?\Z")


def lay_claim(store: Store, place: Place, claim: Claim) -> Claim:
    """
    Claim a generation for a try. Claiming twice is claiming once.

    :return: the claim that stands: this one, or that of another process, which was first
    :raises DocumentInvalid: if the one that stands cannot be read
    """
    key = place.claim_key(claim.by.try_number)
    # A power failure ends what a claim guards, so the claim need not outlive one.
    if store.put_if_absent(key, claim.to_bytes(), durable=False):
        return claim
    return _read(store, key, place)


def newest_claim(store: Store, place: Place) -> Claim | None:
    """
    The newest claim laid to an iteration of a step, whatever its generation; ``None`` before the first.

    :raises DocumentInvalid: if it cannot be read
    """
    for generation in all_generations(store, place):
        names = (key.rpartition("/")[2] for key in store.list(generation.generation_key))
        tries = [int(found[1]) for name in names if (found := _CLAIM.match(name))]
        if tries:
            return _read(store, generation.claim_key(max(tries)), generation)
    return None


def all_generations(store: Store, place: Place) -> list[Place]:
    """The places of all generations of an iteration of a step, the newest first."""
    names = (key.rpartition("/")[2] for key in store.list(place.step_key))
    found = [(int(match[2] or 0), int(match[1])) for name in names if (match := _GENERATION.match(name))]
    return [
        replace(place, generation=generation, incarnation=incarnation)
        for incarnation, generation in sorted(found, reverse=True)
    ]


def _read(store: Store, key: str, place: Place) -> Claim:
    try:
        claim = Claim.from_bytes(store.read(key, Claim.limit))
    except DocumentInvalid as error:
        raise DocumentInvalid(f"{store.uri(key)}: {error}; delete its folder and clear the task") from None
    if (claim.generation, claim.incarnation) != (place.generation, place.incarnation) or key != place.claim_key(
        claim.by.try_number
    ):
        raise DocumentInvalid(f"{store.uri(key)} is the claim of another try; delete its folder and clear the task")
    return claim
