# SPDX-License-Identifier: Apache-2.0
"""
The registry that is an MLflow server's, so that its pages and programs see the same models, versions and aliases.

MLflow gives versions their numbers, and holds aliases. What it lacks lies in the store, under ``<instance>/_mlflow/<name>/``: the files, with a
record of all that is known of a version, and the log of moves. MLflow has no compare-and-set, and moves one alias at a time; a move is therefore an
entry of the log first, which only one writer can add, and is brought to MLflow then. A tag of the model says which entry was; while that is
another one than the newest, the log is what holds, and whoever moves next brings MLflow up to it. Aliases that somebody moved in MLflow itself
hold as they are, and the next move enters them into the log.

Whoever brings a move to MLflow says so in a tag of their own, which they remove at the end: while there is one, the log is what holds as well.
Without it, who was slow would put an old alias under the tag of a later move, and that would look as if somebody had moved it in MLflow itself.
One that is older than ten minutes is of a process that was killed, and is looked past. What is left to chance: a process that was stopped for
longer than that in the middle of a move, went on, and met another move; and what somebody moves in MLflow while a move is under way.

A model without the tag is one that nothing was moved of, though there be a log: somebody deleted the one that had it in MLflow, and made it anew.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.layout import encode_component
from airflow_mlops.registry.errors import UnknownVersion
from airflow_mlops.registry.mlflow_server import Missing, MlflowServer
from airflow_mlops.registry.mlflow_versions import MlflowVersions
from airflow_mlops.registry.model import Facts, ModelVersion, Move
from airflow_mlops.registry.move_log import MoveLog
from airflow_mlops.registry.promotion import CHAMPION, PREVIOUS
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
from airflow_mlops.registry.tries import tries
from airflow_mlops.spec.model_names import ModelReference, check_name, check_number

if TYPE_CHECKING:
    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.artifacts.store import Store
    from airflow_mlops.registry.mlflow_server import ServerModel

MODELS = "_mlflow"
"""Beside the pipelines of an installation, none of whose folders begins with an underscore."""

MOVE_TAG = "mlops_move"
"""Tag of a model: the entry of the log that its aliases are."""

MOVING_TAG = "mlops_moving"
"""Tag of a model, with a dot and a random word: since when somebody has been bringing a move to MLflow."""

_BETWEEN = "0"
"""Value of the move's tag before the first move, and while what it says is made anew."""

_PATIENCE = 600.0
"""Seconds. A request to MLflow takes some minutes at most, until it is given up."""

ELSEWHERE = "somebody in MLflow"


@dataclass(frozen=True, slots=True)
class _State:
    """
    How a model stands.

    :param last: the newest entry of the log
    :param aliases: where they point
    :param outside: what of that was changed in MLflow itself
    :param is_published: whether MLflow's aliases are up to the log
    :param is_new: whether MLflow does not say which move they are
    """

    last: Move | None
    aliases: dict[str, int]
    outside: dict[str, int | None]
    is_published: bool
    is_new: bool = False


class MlflowRegistry:
    """
    Names and versions of models on an MLflow server. See :class:`~airflow_mlops.registry.ModelRegistry`.

    Versions that were registered with MLflow itself have no digest, and are none here.

    :param store: where files, records and the log lie
    :param instance: id of the Airflow installation
    :param uri: of the server
    :raises ArtifactError: if MLflow's client is not installed
    """

    def __init__(self, store: Store, instance: str, uri: str) -> None:
        self._store = store
        self._instance = instance
        self._root = f"{encode_component(instance)}/{MODELS}"
        self._server = MlflowServer(uri)
        self.uri = uri

    def register(
        self, name: str, artifact: Artifact, *, by: str, facts: Facts | None = None, local: Path | None = None
    ) -> tuple[ModelVersion, bool]:
        """Make a model a version; its files are copied, once, and read again."""
        versions, log = self._of(name)
        return versions.register(artifact, local, facts or Facts(), by, lambda: deleted_since(log.newest()))

    def version(self, name: str, number: int) -> ModelVersion:
        """One version."""
        versions, log = self._of(name)
        return self._living(name, check_number(number), versions, log.newest())

    def resolve(self, reference: str | ModelReference) -> ModelVersion:
        """The version that a reference means now."""
        if not isinstance(reference, ModelReference):
            reference = ModelReference.parse(reference)
        if reference.alias is None:
            return self.version(reference.name, check_number(reference.version))
        versions, log = self._of(reference.name)
        state = self._state(reference.name, log)
        if (number := state.aliases.get(reference.alias)) is None:
            raise unknown_alias(reference.name, reference.alias, state.aliases)
        return self._living(reference.name, number, versions, state.last)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions that are not deleted; reads the record of each."""
        versions, log = self._of(name)
        self._model(name)
        return versions.all(lambda: deleted_since(log.newest()))

    def models(self) -> list[str]:
        """Names of all models of the server, whoever made them."""
        return self._server.models()

    def aliases(self, name: str) -> dict[str, int]:
        """Where the aliases of a model point."""
        _, log = self._of(name)
        return dict(self._state(name, log).aliases)

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
        versions, log = self._of(name)
        seen = 0
        for _ in tries():
            if (state := self._settled(name, log, self._state(name, log, seen))) is None:
                continue
            check_expected(name, expected or {}, state.aliases, state.last)
            wanted = {alias: number for alias, number in changes.items() if state.aliases.get(alias) != number}
            if not wanted:
                self._catch_up(name, log, state)
                return None
            # The champion may be none of ours, which must not keep anybody from making it the previous one.
            targets = {number for alias, number in wanted.items() if number is not None and alias != PREVIOUS}
            for number in sorted(targets):
                self._living(name, number, versions, state.last)
            if (made := log.append(state.last, by=by, why=why, changed=wanted)) is not None:
                self._publish(name, log, made)
                return made
            seen = number_after(state.last)
        raise busy(name)

    def delete(self, name: str, number: int, *, by: str, why: str = "") -> Move | None:
        """Delete a version and its files; whoever was killed in between calls it once more."""
        check_number(number)
        versions, log = self._of(name)
        seen = 0
        for _ in tries():
            if (state := self._settled(name, log, self._state(name, log, seen))) is None:
                continue
            if number in deleted_since(state.last):
                self._catch_up(name, log, state)
                versions.delete(number, lambda: deleted_since(log.newest()))
                return None
            self._living(name, number, versions, state.last)
            check_unused(name, number, state.aliases)
            if (made := log.append(state.last, by=by, why=why, changed={}, deleted=number)) is not None:
                self._publish(name, log, made)
                versions.delete(number, lambda: deleted_since(log.newest()))
                return made
            seen = number_after(state.last)
        raise busy(name)

    def history(self, name: str) -> list[Move]:
        """The log of a model; reads the record of each move."""
        _, log = self._of(name)
        moves = log.all()
        if not moves:
            self._model(name)
        return moves

    def _of(self, name: str) -> tuple[MlflowVersions, MoveLog]:
        key = f"{self._root}/{encode_component(check_name(name))}"
        return (
            MlflowVersions(self._server, self._store, key, name, self._instance),
            MoveLog(self._store, f"{key}/moves", name),
        )

    @contextmanager
    def _there(self, name: str) -> Iterator[None]:
        """Say that there is no such model where MLflow does."""
        try:
            yield
        except Missing:
            raise unknown_model(name, self._server.uri, self._server.models()) from None

    def _model(self, name: str) -> ServerModel:
        with self._there(name):
            return self._server.model(name)

    def _state(self, name: str, log: MoveLog, at_least: int = 0) -> _State:
        """
        How a model stands.

        :raises UnknownModel: if there is none
        """
        state = self._seen(name, log, at_least)
        # A server reads tags and aliases one after the other. Only what it says twice was so.
        for _ in tries():
            if not state.outside or (again := self._seen(name, log, at_least)) == state:
                return state
            state = again
        raise busy(name)

    def _seen(self, name: str, log: MoveLog, at_least: int) -> _State:
        # In this order: an entry that MLflow has is in the log by then.
        model = self._model(name)
        last = log.newest(at_least)
        logged = dict(last.aliases) if last else {}
        told_of = model.tags.get(MOVE_TAG)
        if told_of not in (None, str(last.number if last else 0)) or any(_moving(model.tags).values()):
            return _State(last, logged, {}, is_published=False)
        gone = deleted_since(last)
        told = {alias: number for alias, number in model.aliases.items() if number not in gone}
        changed = {alias for alias in {*logged, *told} if logged.get(alias) != told.get(alias)}
        before = logged.get(CHAMPION)
        if CHAMPION in changed & told.keys() and PREVIOUS not in changed and before not in (None, *gone):
            # Whoever promotes in MLflow's pages moves one alias, and the way back is wanted all the same.
            told[PREVIOUS] = logged[CHAMPION]
            changed.add(PREVIOUS)
        outside = {alias: told.get(alias) for alias in sorted(changed)}
        return _State(last, told, outside, is_published=True, is_new=told_of is None)

    def _settled(self, name: str, log: MoveLog, state: _State) -> _State | None:
        """The state, with all of it in the log; ``None`` if that took a change, so that it is to be looked at anew."""
        if state.outside:
            why = "moved in MLflow itself"
            if (made := log.append(state.last, by=ELSEWHERE, why=why, changed=state.outside)) is not None:
                self._publish(name, log, made)
            return None
        if state.is_new:
            # Before there is an entry: whoever is killed after it must not leave a model that looks as if it were made anew.
            self._say(name, state.last)
        return state

    def _say(self, name: str, move: Move | None) -> None:
        """Say which entry of the log MLflow's aliases are."""
        with self._there(name):
            self._server.set_model_tag(name, MOVE_TAG, str(move.number if move else 0))

    def _catch_up(self, name: str, log: MoveLog, state: _State) -> None:
        """Bring MLflow's aliases up to the log where somebody else was killed before it."""
        if not state.is_published and state.last is not None:
            self._publish(name, log, state.last)

    def _publish(self, name: str, log: MoveLog, move: Move) -> None:
        """Bring MLflow's aliases up to the newest entry of the log."""
        own = f"{MOVING_TAG}.{secrets.token_hex(8)}"
        newest: Move | None = move
        with self._there(name):
            self._server.set_model_tag(name, own, str(int(time.time())))
            while newest is not None:
                move = newest
                told = self._server.model(name)
                if told.tags.get(MOVE_TAG) == str(move.number):
                    self._server.set_model_tag(name, MOVE_TAG, _BETWEEN)
                self._bring(name, told.aliases, move.aliases)
                self._server.set_model_tag(name, MOVE_TAG, str(move.number))
                # Whoever was slow here may have undone what somebody else has brought meanwhile.
                found = log.newest(move.number)
                newest = found if found is not None and found.number != move.number else None
            killed = [tag for tag, is_alive in _moving(told.tags).items() if not is_alive and tag != own]
            for tag in (*killed, own):
                self._server.delete_model_tag(name, tag)

    def _bring(self, name: str, told: Mapping[str, int], wanted: Mapping[str, int]) -> None:
        for alias in told.keys() - wanted.keys():
            self._server.delete_alias(name, alias)
        for alias, number in wanted.items():
            if told.get(alias) != number:
                self._point(name, alias, number)

    def _point(self, name: str, alias: str, number: int) -> None:
        try:
            self._server.set_alias(name, alias, number)
        except Missing:
            # Somebody has deleted the version in MLflow itself, and its aliases with it.
            return

    def _living(self, name: str, number: int, versions: MlflowVersions, last: Move | None) -> ModelVersion:
        if number not in deleted_since(last):
            try:
                found = versions.read(number)
            except Missing:
                self._model(name)
            else:
                if found is not None:
                    return found
                raise UnknownVersion(
                    f"version {number} of {name} was registered with MLflow itself and has no digest here; expected one that a step of kind "
                    "register has made"
                )
        raise unknown_version(name, number, versions.numbers(), last)


def _moving(tags: Mapping[str, str]) -> dict[str, bool]:
    """The tags of those who bring a move to MLflow, and whether it is still that."""
    now = time.time()
    return {tag: _is_recent(value, now) for tag, value in tags.items() if tag.startswith(f"{MOVING_TAG}.")}


def _is_recent(value: str, now: float) -> bool:
    """Whether a tag is of a moment around now: the clocks of two workers are never the same."""
    return value.isascii() and value.isdigit() and len(value) < 12 and abs(now - int(value)) < _PATIENCE
