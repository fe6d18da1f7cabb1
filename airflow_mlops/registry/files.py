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
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import NotFound
from airflow_mlops.artifacts.layout import decode_component, encode_component
from airflow_mlops.registry.model import Facts, ModelVersion, Move
from airflow_mlops.registry.move_log import MoveLog
from airflow_mlops.registry.registering import Registering
from airflow_mlops.registry.rules import (
    busy,
    check_aliases,
    check_expected,
    check_unused,
    deleted_since,
    number_after,
    unknown_alias,
    unknown_model,
    unknown_version,
)
from airflow_mlops.registry.shelf import Shelf
from airflow_mlops.registry.tries import tries
from airflow_mlops.spec.model_names import ModelReference, check_name, check_number

if TYPE_CHECKING:
    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.artifacts.store import Store
    from airflow_mlops.registry.errors import UnknownModel

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
                raise unknown_alias(reference.name, reference.alias, aliases)
        return self._living(reference.name, check_number(number), shelf, last)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions that are not deleted; reads the record of each."""
        shelf, log = self._of(name)
        stored = shelf.all()
        if not stored:
            raise self._unknown(name)
        gone = deleted_since(log.newest())
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
        check_aliases(changes)
        check_aliases(expected or {})
        shelf, log = self._of(name)
        seen = 0
        for _ in tries():
            last = self._state(name, shelf, log, seen)
            current = last.aliases if last else {}
            check_expected(name, expected or {}, current, last)
            wanted = {alias: number for alias, number in changes.items() if current.get(alias) != number}
            if not wanted:
                return None
            for number in sorted({number for number in wanted.values() if number is not None}):
                self._living(name, number, shelf, last)
            if (made := log.append(last, by=by, why=why, changed=wanted)) is not None:
                return made
            seen = number_after(last)
        raise busy(name)

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
                raise unknown_version(name, number, shelf.numbers(), last) from None
            if number in deleted_since(last):
                shelf.clear(stored)
                return None
            check_unused(name, number, last.aliases if last else {})
            if (made := log.append(last, by=by, why=why, changed={}, deleted=number)) is not None:
                shelf.clear(stored)
                return made
            seen = number_after(last)
        raise busy(name)

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
            if number not in deleted_since(last):
                return shelf.read(number).version
        except NotFound:
            if not shelf.numbers():
                raise self._unknown(name) from None
        raise unknown_version(name, number, shelf.numbers(), last)

    def _unknown(self, name: str) -> UnknownModel:
        names = [decode_component(key.rpartition("/")[2]) for key in self._store.list(self._root)]
        return unknown_model(name, self._store.uri(self._root), [other for other in names if other])
