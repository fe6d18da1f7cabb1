# SPDX-License-Identifier: Apache-2.0
"""
The registry that needs no server: files in the store, under ``<instance>/_models/<name>/``.

``versions/<number>.json`` and ``moves/<number>.json`` are put if absent and never changed, so two writers can only get in
each other's way by wanting the same number, and the one who comes second looks again. Nothing is locked, and whoever is
killed leaves nothing that another one has to repair first.

A registration reads a document for each hundred versions of the model, and the records of up to a hundred, to find the
same content. Whoever lists versions or the log reads the record of each, everybody else one or two. Beside that, each of
them lists the model's ``versions`` or ``moves``, of which object stores give a thousand at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import NotFound
from airflow_mlops.artifacts.layout import decode_component, encode_component
from airflow_mlops.registry.errors import (
    AliasMoved,
    RegistryBusy,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
)
from airflow_mlops.registry.model import Facts, ModelVersion, Move
from airflow_mlops.registry.move_log import MoveLog
from airflow_mlops.registry.registering import Registering
from airflow_mlops.registry.shelf import Shelf
from airflow_mlops.registry.tries import tries
from airflow_mlops.spec.model_names import ModelReference, check_alias, check_name, check_number

if TYPE_CHECKING:
    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.artifacts.store import Store
    from airflow_mlops.registry.protocol import ModelRegistry

MODELS = "_models"
"""Beside the pipelines of an installation, none of whose folders begins with an underscore."""


class FileRegistry:
    """
    Names and versions of models as files in a store. See :class:`~airflow_mlops.registry.ModelRegistry`.

    :param instance: id of the Airflow installation
    """

    def __init__(self, store: Store, instance: str) -> None:
        self._store = store
        self._root = f"{encode_component(instance)}/{MODELS}"

    def register(
        self, name: str, artifact: Artifact, *, by: str, facts: Facts | None = None, local: Path | None = None
    ) -> tuple[ModelVersion, bool]:
        """Make a model a version; its files are copied, once, and read again."""
        shelf, log = self._of(name)
        return Registering(shelf, log, name, artifact, local, facts or Facts(), by).run()

    def version(self, name: str, number: int) -> ModelVersion:
        """One version."""
        shelf, log = self._of(name)
        return self._living(name, check_number(number), shelf, log.newest())

    def resolve(self, reference: str | ModelReference) -> ModelVersion:
        """The version that a reference means now."""
        if not isinstance(reference, ModelReference):
            reference = ModelReference.parse(reference)
        shelf, log = self._of(reference.name)
        last = self._state(reference.name, shelf, log)
        number = reference.version
        if reference.alias is not None:
            aliases = last.aliases if last else {}
            if (number := aliases.get(reference.alias)) is None:
                has = f"it has {', '.join(aliases)}" if aliases else "it has none"
                raise UnknownAlias(
                    f"the model {reference.name} has no alias '{reference.alias}', {has}; move that alias to a version first"
                )
        return self._living(reference.name, check_number(number), shelf, last)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions that are not deleted; reads the record of each."""
        shelf, log = self._of(name)
        stored = shelf.all()
        if not stored:
            raise self._unknown(name)
        gone = _deleted(log.newest())
        return [found.version for found in stored if found.version.version not in gone]

    def models(self) -> list[str]:
        """Names of all models; lists the folder of each."""
        found = []
        for key in self._store.list(self._root):
            shelf = Shelf(self._store, key, "")
            if numbers := shelf.numbers():
                # A long name is not in its folder's, but in every record.
                found.append(decode_component(key.rpartition("/")[2]) or shelf.name_in(numbers[0]))
        return sorted(found)

    def aliases(self, name: str) -> dict[str, int]:
        """Where the aliases of a model point."""
        last = self._state(name, *self._of(name))
        return dict(last.aliases) if last else {}

    def move(
        self,
        name: str,
        changes: Mapping[str, int | None],
        *,
        by: str,
        why: str = "",
        expected: Mapping[str, int | None] | None = None,
    ) -> Move | None:
        """Move aliases, all of them or none."""
        _check_aliases(changes)
        _check_aliases(expected or {})
        shelf, log = self._of(name)
        seen = 0
        for _ in tries():
            last = self._state(name, shelf, log, seen)
            current = last.aliases if last else {}
            _check_expected(name, expected or {}, current, last)
            wanted = {alias: number for alias, number in changes.items() if current.get(alias) != number}
            if not wanted:
                return None
            for number in sorted({number for number in wanted.values() if number is not None}):
                self._living(name, number, shelf, last)
            if (made := log.append(last, by=by, why=why, changed=wanted)) is not None:
                return made
            seen = _after(last)
        raise _busy(name)

    def delete(self, name: str, number: int, *, by: str, why: str = "") -> Move | None:
        """Delete a version and its files; whoever was killed in between calls it once more."""
        check_number(number)
        shelf, log = self._of(name)
        seen = 0
        for _ in tries():
            last = self._state(name, shelf, log, seen)
            try:
                stored = shelf.read(number)
            except NotFound:
                raise _unknown_version(name, number, shelf, last) from None
            if number in _deleted(last):
                shelf.clear(stored)
                return None
            _check_unused(name, number, last)
            if (made := log.append(last, by=by, why=why, changed={}, deleted=number)) is not None:
                shelf.clear(stored)
                return made
            seen = _after(last)
        raise _busy(name)

    def history(self, name: str) -> list[Move]:
        """The log of a model; reads the record of each move."""
        shelf, log = self._of(name)
        moves = log.all()
        if not moves:
            self._state(name, shelf, log)
        return moves

    def _of(self, name: str) -> tuple[Shelf, MoveLog]:
        key = f"{self._root}/{encode_component(check_name(name))}"
        return Shelf(self._store, key, name), MoveLog(self._store, f"{key}/moves", name)

    def _state(self, name: str, shelf: Shelf, log: MoveLog, at_least: int = 0) -> Move | None:
        """
        The newest move; ``None`` before the first.

        :raises UnknownModel: if there is no such model
        """
        last = log.newest(at_least)
        if last is None and not shelf.numbers():
            raise self._unknown(name)
        return last

    def _living(self, name: str, number: int, shelf: Shelf, last: Move | None) -> ModelVersion:
        try:
            if number not in _deleted(last):
                return shelf.read(number).version
        except NotFound:
            if not shelf.numbers():
                raise self._unknown(name) from None
        raise _unknown_version(name, number, shelf, last)

    def _unknown(self, name: str) -> UnknownModel:
        names = [decode_component(key.rpartition("/")[2]) for key in self._store.list(self._root)]
        near = get_close_matches(name, [other for other in names if other and other != name], n=1, cutoff=0.6)
        hint = f"did you mean '{near[0]}'?" if near else "register a version of it first"
        return UnknownModel(f"there is no model '{name}' in {self._store.uri(self._root)}; {hint}")


def _deleted(last: Move | None) -> list[int]:
    return last.all_deleted if last else []


def _after(last: Move | None) -> int:
    """The number that was taken when a move after this one was to be added."""
    return (last.number if last else 0) + 1


def _check_aliases(aliases: Mapping[str, int | None]) -> None:
    for alias, number in aliases.items():
        check_alias(alias)
        if number is not None:
            check_number(number)


def _check_expected(
    name: str, expected: Mapping[str, int | None], current: Mapping[str, int], last: Move | None
) -> None:
    for alias, number in expected.items():
        if (now := current.get(alias)) != number:
            is_now = "does not exist" if now is None else f"points to version {now}"
            wanted = "not to exist" if number is None else f"to point to version {number}"
            by = f" (the newest move is {last.number}, by {last.by})" if last else ""
            raise AliasMoved(
                f"the alias '{alias}' of {name} {is_now}, and was expected {wanted}{by}; nothing was moved: look at the "
                "aliases again and decide anew"
            )


def _check_unused(name: str, number: int, last: Move | None) -> None:
    held = sorted(alias for alias, held in (last.aliases if last else {}).items() if held == number)
    if held:
        raise VersionInUse(
            f"version {number} of {name} is {', '.join(held)}; move {'that alias' if len(held) == 1 else 'those aliases'} "
            "to another version, or remove it, before the version is deleted"
        )


def _unknown_version(name: str, number: int, shelf: Shelf, last: Move | None) -> UnknownVersion:
    gone = _deleted(last)
    if number in gone:
        return UnknownVersion(f"version {number} of {name} was deleted; its number is not used again: name another one")
    living = [str(found) for found in shelf.numbers() if found not in gone]
    shown = ", ".join(["…", *living[-10:]] if len(living) > 10 else living) or "none any more"
    return UnknownVersion(f"{name} has no version {number}; it has {shown}")


def _busy(name: str) -> RegistryBusy:
    return RegistryBusy(f"others moved aliases of {name}, or deleted versions of it, at every try; try again")


if TYPE_CHECKING:
    _IS_ONE: type[ModelRegistry] = FileRegistry
