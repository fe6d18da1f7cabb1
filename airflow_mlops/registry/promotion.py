# SPDX-License-Identifier: Apache-2.0
"""
Promotion and its way back: which aliases move together when a version takes over.

``champion`` is the version in use, ``previous`` the one before it, ``challenger`` the one that is to be compared with it.
They are moved by compare-and-set over all three, so whoever promotes at the same time comes after, not in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlops.registry.errors import AliasMoved, RegistryBusy
from airflow_mlops.registry.rules import check_expected
from airflow_mlops.registry.tries import tries
from airflow_mlops.spec.model_names import check_number

if TYPE_CHECKING:
    from airflow_mlops.registry.model import Move
    from airflow_mlops.registry.protocol import ModelRegistry

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

Changes = dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Promotion:
    """
    What came of it.

    :param move: the entry of the log; ``None`` if there was nothing to do
    :param message: that in words
    """

    move: Move | None
    message: str


def promote(
    registry: ModelRegistry,
    name: str,
    number: int,
    *,
    by: str,
    why: str = "",
    expected: Mapping[str, int | None] | None = None,
) -> Promotion:
    """
    Make a version the champion, and the old champion the previous one. If the version was the challenger, it is that no
    more. A second call changes nothing.

    :param number: the version
    :param by: who does it
    :param why: for what reason
    :param expected: where aliases must point for this to be done, unless there is nothing to do; ``None`` stands for one that there is not
    :raises AliasMoved: if an alias points to something else than was expected
    :raises UnknownModel: if there is no such model
    :raises UnknownVersion: if it has no such version, or has it no more
    :raises RegistryBusy: if others were faster at every try
    """
    check_number(number)

    def ask(aliases: Mapping[str, int]) -> tuple[Changes, str]:
        changes, message = promotion(name, number, aliases)
        if changes:
            check_expected(name, expected or {}, aliases, None)
        return changes, message

    return _moved(registry, name, ask, by, why)


def rollback(registry: ModelRegistry, name: str, *, by: str, why: str = "", only_from: int | None = None) -> Promotion:
    """
    Make the previous version the champion again, and the champion the previous one.

    :param by: who does it
    :param why: for what reason
    :param only_from: do it only if this version is the champion. Without it a second call takes the first one back, so
        whatever may be tried again should give it
    :raises UnknownModel: if there is no such model
    :raises RegistryBusy: if others were faster at every try
    """
    if only_from is not None:
        check_number(only_from)
    return _moved(registry, name, lambda aliases: way_back(name, aliases, only_from), by, why)


def promotion(name: str, number: int, aliases: Mapping[str, int]) -> tuple[Changes, str]:
    """What a promotion changes, and that in words; no changes if it changes nothing."""
    champion = aliases.get(CHAMPION)
    changes: Changes = {}
    if champion != number:
        changes[CHAMPION] = number
        if champion is not None:
            changes[PREVIOUS] = champion
    if aliases.get(CHALLENGER) == number:
        changes[CHALLENGER] = None
    if champion == number:
        return changes, f"version {number} of {name} is the champion already"
    before = "there was none before" if champion is None else f"version {champion} is the previous one"
    return changes, f"version {number} of {name} is the champion now, and {before}"


def way_back(name: str, aliases: Mapping[str, int], only_from: int | None) -> tuple[Changes, str]:
    """What a rollback changes, and that in words; no changes if it changes nothing."""
    champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
    if only_from is not None and champion != only_from:
        now = "there is none" if champion is None else f"that is version {champion}"
        return {}, f"version {only_from} of {name} is not the champion, {now}: nothing to roll back"
    if previous is None or previous == champion:
        return {}, f"no version was the champion of {name} before: nothing to roll back to"
    replaced = "" if champion is None else f", and version {champion} the previous one"
    return {CHAMPION: previous, PREVIOUS: champion}, f"version {previous} of {name} is the champion again{replaced}"


def _moved(
    registry: ModelRegistry, name: str, ask: Callable[[Mapping[str, int]], tuple[Changes, str]], by: str, why: str
) -> Promotion:
    for _ in tries():
        aliases = registry.aliases(name)
        changes, message = ask(aliases)
        if not changes:
            # Whoever was killed on the way may not have told everybody: a registry on a server ends that now.
            registry.move(name, {}, by=by, why=why)
            return Promotion(None, message)
        expected = {alias: aliases.get(alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
        try:
            return Promotion(registry.move(name, changes, by=by, why=why, expected=expected), message)
        except AliasMoved:
            continue
    raise RegistryBusy(f"the aliases of {name} were moved by others at every try; try again")
