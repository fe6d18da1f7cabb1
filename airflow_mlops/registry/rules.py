# SPDX-License-Identifier: Apache-2.0
"""What holds for aliases and versions in any registry, and how it is said where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from airflow_mlops.registry.errors import (
    AliasMoved,
    RegistryBusy,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
)
from airflow_mlops.spec.model_names import check_alias, check_number

if TYPE_CHECKING:
    from airflow_mlops.registry.model import Move

_SHOWN = 10
"""Versions that a message names."""


def deleted_since(last: Move | None) -> list[int]:
    """Versions that are deleted after a move; ``None`` is before the first."""
    return last.all_deleted if last else []


def number_after(last: Move | None) -> int:
    """The number that was taken when a move after this one was to be added."""
    return (last.number if last else 0) + 1


def check_aliases(aliases: Mapping[str, int | None]) -> None:
    """
    Check that aliases are some, and their versions numbers.

    :raises NameRefused: if not
    """
    for alias, number in aliases.items():
        check_alias(alias)
        if number is not None:
            check_number(number)


def check_expected(
    name: str, expected: Mapping[str, int | None], current: Mapping[str, int], last: Move | None
) -> None:
    """
    Check that aliases point to where they were expected to.

    :param last: the newest move
    :raises AliasMoved: if not
    """
    for alias, number in expected.items():
        if (now := current.get(alias)) != number:
            is_now = "does not exist" if now is None else f"points to version {now}"
            wanted = "not to exist" if number is None else f"to point to version {number}"
            by = f" (the newest move is {last.number}, by {last.by})" if last else ""
            raise AliasMoved(
                f"the alias '{alias}' of {name} {is_now}, and was expected {wanted}{by}; nothing was moved: look at the "
                "aliases again and decide anew"
            )


def check_unused(name: str, number: int, aliases: Mapping[str, int]) -> None:
    """
    Check that no alias points to a version.

    :raises VersionInUse: if one does
    """
    held = sorted(alias for alias, held in aliases.items() if held == number)
    if held:
        raise VersionInUse(
            f"version {number} of {name} is {', '.join(held)}; move {'that alias' if len(held) == 1 else 'those aliases'} "
            f"to another version, or remove {'it' if len(held) == 1 else 'them'}, before the version is deleted"
        )


def unknown_model(name: str, where: str, names: Sequence[str]) -> UnknownModel:
    """
    The failure that there is no such model.

    :param where: the registry
    :param names: the models that it has
    """
    near = get_close_matches(name, [other for other in names if other != name], n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else "register a version of it first"
    return UnknownModel(f"there is no model '{name}' in {where}; {hint}")


def unknown_version(name: str, number: int, numbers: Sequence[int], last: Move | None) -> UnknownVersion:
    """
    The failure that a model has no such version, or has it no more.

    :param numbers: those that it has or had
    :param last: the newest move
    """
    gone = deleted_since(last)
    if number in gone:
        return UnknownVersion(f"version {number} of {name} was deleted; its number is not used again: name another one")
    living = [str(found) for found in numbers if found not in gone]
    shown = ", ".join(["…", *living[-_SHOWN:]] if len(living) > _SHOWN else living) or "none any more"
    return UnknownVersion(f"{name} has no version {number}; it has {shown}")


def unknown_alias(name: str, alias: str, aliases: Mapping[str, int]) -> UnknownAlias:
    """The failure that a model has no such alias."""
    has = f"it has {', '.join(aliases)}" if aliases else "it has none"
    return UnknownAlias(f"the model {name} has no alias '{alias}', {has}; move that alias to a version first")


def busy(name: str) -> RegistryBusy:
    """The failure that others were faster at every try."""
    return RegistryBusy(f"others moved aliases of {name}, or deleted versions of it, at every try; try again")
