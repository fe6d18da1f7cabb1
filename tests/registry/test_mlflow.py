# SPDX-License-Identifier: Apache-2.0
"""
The registry on an MLflow server: what a crash leaves, what people do in MLflow itself, what is believed of what they wrote there, and a server
that is away, busy or wrong.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.artifacts import ArtifactError, DocumentInvalid, Store, StoreFailed
from airflow_mlops.registry import (
    AliasMoved,
    Facts,
    MlflowRegistry,
    Origin,
    RegistryDenied,
    UnknownModel,
    UnknownVersion,
    promote,
    rollback,
)
from airflow_mlops.registry import mlflow_registry as registry_module
from airflow_mlops.registry.mlflow_registry import MOVE_TAG, MOVING_TAG
from airflow_mlops.registry.mlflow_versions import DIGEST_TAG, FOLDER_TAG, MlflowVersions
from tests.parts.s3 import free_port
from tests.registry.test_races import WRITERS, at_once, check_log

if TYPE_CHECKING:
    from airflow_mlops.registry.mlflow_server import MlflowServer
    from tests.parts.mlflow import MlflowServer as RunningServer
    from tests.registry.conftest import Make

Open = Callable[[], MlflowRegistry]
TREE = {"a": b"1" * 1000, "b/c": b"2" * 1000}
LONG_AGO = "1000000000"


@pytest.fixture
def store(file_store: Store) -> Store:
    """The kind of store is the contract's matter, and nothing here depends on it."""
    return file_store


@pytest.fixture
def connect(empty_mlflow: RunningServer, store: Store) -> Open:
    """Opens the registry as another process would."""
    return lambda: MlflowRegistry(store, "prod", empty_mlflow.url)


@pytest.fixture
def registry(connect: Open) -> MlflowRegistry:
    return connect()


@pytest.fixture
def client(empty_mlflow: RunningServer) -> Any:
    """MLflow's own client: what people and programs do beside us."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(empty_mlflow.url, empty_mlflow.url)


@pytest.fixture
def few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is waited for, for a moment."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


def folders_of(store: Store, digest: str, name: str = "churn") -> list[str]:
    """Where copies of some content lie: one folder each, without their records."""
    found = store.list(f"prod/_mlflow/{name}/files/{digest.replace(':', '-')}/0")
    return [key for key in found if not key.endswith(".json")]


# Killed at every request


class Killed(BaseException):
    """Stands for the end of the process: nothing that catches failures sees it."""


class Between:
    """
    A server with something that happens at one of its requests.

    :param at: number of the request, or its name
    """

    def __init__(self, server: MlflowServer, at: int | str, action: Callable[[], Any], *, after: bool = False) -> None:
        self._server = server
        self._at = at
        self._action = action
        self._after = after
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._server, name)
        if not callable(found):
            return found

        def call(*values: Any, **keywords: Any) -> Any:
            self.calls.append(name)
            is_it = self._at in (name, len(self.calls))
            if is_it and not self._after:
                self._action()
            answer = found(*values, **keywords)
            if is_it and self._after:
                self._action()
            return answer

        return call


def between(registry: MlflowRegistry, at: int | str, action: Callable[[], Any], *, after: bool = False) -> Between:
    """Have something happen at a request of a registry's."""
    honest: Any = registry._server
    made: Any = Between(honest, at, action, after=after)
    registry._server = made
    return made  # type: ignore[no-any-return]


def die() -> None:
    raise Killed


def every_death(
    connect: Open, act: Callable[[MlflowRegistry, str], Any], prepare: Callable[[str], None]
) -> Iterator[str]:
    """
    Do something to one model after the other, and die just before and just after its first request, its second one, and so on until it comes
    through; names of the models.
    """
    for number in itertools.count(1):
        for after in (False, True):
            name = f"model-{number}-{'after' if after else 'before'}"
            prepare(name)
            registry = connect()
            between(registry, number, die, after=after)
            try:
                act(registry, name)
            except Killed:
                yield name
                continue
            assert number > 1
            return


def check_agreed(registry: MlflowRegistry, client: Any, name: str) -> None:
    """MLflow says what the log says, and neither points to what is deleted."""
    log = registry.history(name)
    check_log(log)
    assert (
        log[-1].aliases
        == registry.aliases(name)
        == {alias: int(number) for alias, number in client.get_registered_model(name).aliases.items()}
    )


def test_a_registration_that_is_killed_at_any_request_is_none_or_whole_and_the_next_one_ends_the_same(
    connect: Open, store: Store, make_model: Make
) -> None:
    artifact = make_model(files=TREE)
    killed = was_whole = 0
    for name in every_death(connect, lambda registry, name: registry.register(name, artifact, by="w"), lambda _: None):
        registry = connect()
        with contextlib.suppress(UnknownModel):
            was_whole += len(registry.versions(name))
        version, created = registry.register(name, artifact, by="me")
        assert created == (version.registered_by == "me")
        assert registry.versions(name) == [version]
        assert store.digest(store.key(version.uri)).digest == artifact.digest
        assert registry.register(name, artifact, by="me") == (version, False)
        killed += 1
    assert killed >= 8
    assert 0 < was_whole < killed


def test_a_move_that_is_killed_at_any_request_is_made_for_all_aliases_or_none_and_the_next_one_ends_the_same(
    connect: Open, client: Any, make_model: Make
) -> None:
    made = [make_model(), make_model()]
    before, then = {"a": 1, "b": 2, "c": 1}, {"a": 2, "b": 1}

    def prepare(name: str) -> None:
        for artifact in made:
            connect().register(name, artifact, by="me")
        connect().move(name, before, by="me")

    def act(registry: MlflowRegistry, name: str) -> None:
        registry.move(name, {"a": 2, "b": 1, "c": None}, by="w")

    moved = 0
    for name in every_death(connect, act, prepare):
        assert (found := connect().aliases(name)) in (before, then)
        assert connect().resolve(f"models:{name}@a").version == found["a"]
        moved += found == then
        act(connect(), name)
        assert connect().aliases(name) == then
        assert len(connect().history(name)) == 2
        check_agreed(connect(), client, name)
    assert moved >= 5


def test_the_first_move_of_a_model_that_is_killed_at_any_request_is_made_or_not(
    connect: Open, client: Any, make_model: Make
) -> None:
    """A model without the tag looks as one that was made anew in MLflow, whose log does not hold."""
    artifact = make_model()

    def act(registry: MlflowRegistry, name: str) -> None:
        registry.move(name, {"a": 1, "b": 1}, by="w")

    moved = 0
    for name in every_death(connect, act, lambda name: connect().register(name, artifact, by="me") and None):
        logged = connect().history(name)
        assert connect().aliases(name) == ({"a": 1, "b": 1} if logged else {})
        moved += len(logged)
        act(connect(), name)
        assert [move.by for move in connect().history(name)] == ["w"]
        check_agreed(connect(), client, name)
    assert moved >= 5


def test_a_promotion_that_is_killed_at_any_request_was_made_or_not_and_the_next_one_ends_the_same(
    connect: Open, client: Any, make_model: Make
) -> None:
    made = [make_model(), make_model()]

    def prepare(name: str) -> None:
        for artifact in made:
            connect().register(name, artifact, by="me")
        promote(connect(), name, 1, by="me")

    moved = 0
    for name in every_death(connect, lambda registry, name: promote(registry, name, 2, by="w"), prepare):
        assert (found := connect().aliases(name)) in ({"champion": 1}, {"champion": 2, "previous": 1})
        moved += found["champion"] == 2
        promote(connect(), name, 2, by="me")
        assert connect().aliases(name) == {"champion": 2, "previous": 1}
        assert len(connect().history(name)) == 2
        check_agreed(connect(), client, name)
    assert moved >= 5


def test_a_deletion_that_is_killed_at_any_request_is_ended_by_the_next_one(
    connect: Open, client: Any, store: Store, make_model: Make
) -> None:
    made = [make_model(files=TREE), make_model()]

    def prepare(name: str) -> None:
        for artifact in made:
            connect().register(name, artifact, by="me")
        connect().move(name, {"champion": 2}, by="me")

    for name in every_death(connect, lambda registry, name: registry.delete(name, 1, by="w"), prepare):
        for version in connect().versions(name):
            assert store.digest(store.key(version.uri)).digest == version.digest
        connect().delete(name, 1, by="me")
        assert [version.version for version in connect().versions(name)] == [2]
        assert [int(version.version) for version in client.search_model_versions(f"name='{name}'")] == [2]
        assert folders_of(store, made[0].digest, name) == []
        assert [move.deleted for move in connect().history(name)] == [None, 1]
        check_agreed(connect(), client, name)
        assert connect().register(name, made[0], by="me")[0].version == 3


def test_a_registration_that_is_killed_after_its_copy_leaves_files_that_are_nobodys(
    connect: Open, store: Store, make_model: Make
) -> None:
    artifact = make_model(files=TREE)
    registry = connect()
    between(registry, "create_version", die)
    with pytest.raises(Killed):
        registry.register("churn", artifact, by="w")
    (left,) = folders_of(store, artifact.digest)
    assert connect().versions("churn") == []
    version, created = connect().register("churn", artifact, by="me")
    assert (version.version, created) == (1, True)
    assert store.key(version.uri).rpartition("/")[0] != left
    assert store.digest(store.key(version.uri)).digest == artifact.digest
    connect().delete("churn", 1, by="me")
    assert folders_of(store, artifact.digest) == [left]


def test_of_two_versions_that_a_killed_writer_left_the_first_one_is_it(
    connect: Open, store: Store, make_model: Make
) -> None:
    artifact = make_model()
    slow = connect()
    between(slow, "create_version", lambda: connect().register("churn", artifact, by="other"))
    slow._server._server = Between(slow._server._server, "create_version", die, after=True)  # type: ignore[attr-defined]
    with pytest.raises(Killed):
        slow.register("churn", artifact, by="w")
    assert len(connect()._server.versions("churn")) == 2
    assert [version.version for version in connect().versions("churn")] == [1]
    version, created = connect().register("churn", artifact, by="me")
    assert (version.version, created, version.registered_by) == (1, False, "other")
    assert len(folders_of(store, artifact.digest)) == 2


# Others at the same time


def test_all_who_register_the_same_content_get_one_version_though_one_is_slow_to_take_its_own_back(
    connect: Open, client: Any, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make_model(files=TREE) for _ in range(WRITERS)]
    honest = MlflowVersions._take_back
    lock, waited, others = threading.Lock(), [False], threading.Semaphore(0)

    def take_back(self: MlflowVersions, *values: Any) -> None:
        with lock:
            is_slow, waited[0] = not waited[0], True
        if is_slow:
            # Until all others are done: some made versions of their own and took them back, some found this one's.
            for _ in range(WRITERS - 1):
                assert others.acquire(timeout=60)
        honest(self, *values)

    def job(artifact: Any) -> Any:
        try:
            return connect().register("churn", artifact, by="me")
        finally:
            others.release()

    monkeypatch.setattr(MlflowVersions, "_take_back", take_back)
    done = at_once([lambda artifact=artifact: job(artifact) for artifact in made])
    assert len({(version.version, version.uri) for version, _ in done}) == 1
    assert [created for _, created in done].count(True) == 1
    assert [version.version for version in connect().versions("churn")] == [done[0][0].version]
    assert len(client.search_model_versions("name='churn'")) == 1
    assert len(folders_of(store, made[0].digest)) == 1
    assert store.digest(store.key(done[0][0].uri)).digest == made[0].digest


def test_a_version_that_a_slow_writer_has_yet_to_take_back_is_not_listed(
    connect: Open, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_model()
    slow = connect()
    between(slow, "create_version", lambda: connect().register("churn", artifact, by="other"))
    seen: list[list[int]] = []
    honest = MlflowVersions._take_back

    def take_back(self: MlflowVersions, *values: Any) -> None:
        seen.append([version.version for version in connect().versions("churn")])
        honest(self, *values)

    monkeypatch.setattr(MlflowVersions, "_take_back", take_back)
    version, created = slow.register("churn", artifact, by="me")
    assert (version.version, created) == (1, False)
    assert seen[-1] == [1]


@pytest.mark.parametrize("dies", [False, True])
def test_who_is_slow_to_bring_a_move_to_mlflow_takes_no_later_one_back(
    connect: Open, client: Any, make_model: Make, dies: bool
) -> None:
    """Between its first alias and its last word MLflow has the old alias under the tag of the new move."""
    for _ in range(3):
        connect().register("churn", make_model(), by="me")
    slow = connect()
    seen: list[Any] = []

    def look() -> None:
        seen.append(connect().aliases("churn"))
        seen.append(connect().resolve("models:churn@champion").version)
        if dies:
            raise Killed

    between(slow, "set_alias", lambda: connect().move("churn", {"champion": 2}, by="other"))
    slow._server._server = Between(slow._server._server, "set_alias", look, after=True)  # type: ignore[attr-defined]
    with pytest.raises(Killed) if dies else contextlib.nullcontext():
        slow.move("churn", {"champion": 1}, by="slow")
    assert seen == [{"champion": 2}, 2] * (1 if dies else 2)
    connect().move("churn", {"challenger": 3}, by="me")
    assert [move.by for move in connect().history("churn")] == ["slow", "other", "me"]
    assert connect().aliases("churn") == {"challenger": 3, "champion": 2}
    check_agreed(connect(), client, "churn")


def test_a_model_that_is_read_while_it_is_moved_is_read_again(connect: Open, make_model: Make) -> None:
    """A server reads tags and aliases one after the other; what it says once need never have been so."""
    for _ in range(2):
        connect().register("churn", make_model(), by="me")
    connect().move("churn", {"champion": 1}, by="me")
    connect().move("churn", {"champion": 2}, by="me")
    registry = connect()
    honest = registry._server.model
    torn = iter([{"champion": 1}])

    def model(name: str) -> Any:
        found = honest(name)
        return type(found)(next(torn, found.aliases), found.tags)

    registry._server.model = model  # type: ignore[method-assign]
    assert registry.aliases("churn") == {"champion": 2}


def test_a_model_that_somebody_deletes_meanwhile_is_made_again(
    connect: Open, client: Any, store: Store, make_model: Make
) -> None:
    artifact = make_model()
    connect().register("churn", make_model(), by="me")
    registry = connect()
    deleted = iter([True])
    between(
        registry, "create_version", lambda: client.delete_registered_model("churn") if next(deleted, False) else None
    )
    version, created = registry.register("churn", artifact, by="me")
    assert (version.version, created) == (1, True)
    assert len(folders_of(store, artifact.digest)) == 1


def test_a_move_of_a_model_that_somebody_deletes_meanwhile_says_so(
    connect: Open, client: Any, make_model: Make
) -> None:
    connect().register("churn", make_model(), by="me")
    registry = connect()
    between(registry, "set_alias", lambda: client.delete_registered_model("churn"))
    with pytest.raises(UnknownModel, match="no model 'churn'"):
        registry.move("churn", {"champion": 1}, by="me")


# What people do in MLflow itself


@pytest.fixture
def churn(registry: MlflowRegistry, make_model: Make) -> MlflowRegistry:
    """A model with three versions, of which the first is the champion."""
    for _ in range(3):
        registry.register("churn", make_model(), by="me")
    promote(registry, "churn", 1, by="ann")
    return registry


def test_an_alias_that_was_moved_in_mlflow_holds_and_the_next_move_enters_it(
    churn: MlflowRegistry, client: Any
) -> None:
    client.set_registered_model_alias("churn", "champion", "2")
    client.set_registered_model_alias("churn", "shadow", "3")
    assert churn.aliases("churn") == {"champion": 2, "previous": 1, "shadow": 3}
    assert churn.resolve("models:churn@champion").version == 2
    assert len(churn.history("churn")) == 1
    promote(churn, "churn", 3, by="bob")
    log = churn.history("churn")
    assert [(move.by, move.changed) for move in log] == [
        ("ann", {"champion": 1}),
        ("somebody in MLflow", {"champion": 2, "previous": 1, "shadow": 3}),
        ("bob", {"champion": 3, "previous": 2}),
    ]
    check_agreed(churn, client, "churn")


def test_a_promotion_in_mlflow_can_be_rolled_back(churn: MlflowRegistry, client: Any) -> None:
    client.set_registered_model_alias("churn", "champion", "2")
    assert churn.resolve("models:churn@previous").version == 1
    assert rollback(churn, "churn", by="bob", only_from=2).move is not None
    assert churn.aliases("churn") == {"champion": 1, "previous": 2}
    check_agreed(churn, client, "churn")


def test_nothing_is_rolled_back_to_a_version_that_no_step_can_read(churn: MlflowRegistry, client: Any) -> None:
    client.create_model_version("churn", "s3://elsewhere/model", await_creation_for=None)
    client.set_registered_model_alias("churn", "champion", "4")
    promote(churn, "churn", 2, by="me")
    with pytest.raises(UnknownVersion, match="version 4 of churn was registered with MLflow itself"):
        rollback(churn, "churn", by="me")
    assert churn.aliases("churn") == {"champion": 2, "previous": 4}


def test_an_alias_that_was_removed_in_mlflow_is_gone(churn: MlflowRegistry, client: Any) -> None:
    client.delete_registered_model_alias("churn", "champion")
    assert churn.aliases("churn") == {}
    churn.move("churn", {"challenger": 2}, by="bob")
    assert churn.history("churn")[1].changed == {"champion": None}
    assert churn.aliases("churn") == {"challenger": 2}
    check_agreed(churn, client, "churn")


def test_what_is_expected_is_compared_with_what_mlflow_says(churn: MlflowRegistry, client: Any) -> None:
    client.set_registered_model_alias("churn", "champion", "2")
    with pytest.raises(AliasMoved, match="points to version 2, and was expected to point to version 1"):
        churn.move("churn", {"champion": 3}, by="bob", expected={"champion": 1})
    assert churn.aliases("churn") == {"champion": 2, "previous": 1}
    assert churn.move("churn", {"champion": 3}, by="bob", expected={"champion": 2})
    assert rollback(churn, "churn", by="bob", only_from=2).move is None


def test_a_version_that_an_alias_of_mlflows_points_to_is_not_deleted(churn: MlflowRegistry, client: Any) -> None:
    client.set_registered_model_alias("churn", "shadow", "3")
    with pytest.raises(ArtifactError, match="version 3 of churn is shadow"):
        churn.delete("churn", 3, by="me")
    assert churn.version("churn", 3)


def test_aliases_of_a_model_that_mlflow_has_made_hold_before_the_first_move(
    registry: MlflowRegistry, client: Any, make_model: Make
) -> None:
    client.create_registered_model("churn")
    registry.register("churn", make_model(), by="me")
    client.set_registered_model_alias("churn", "champion", "1")
    assert registry.resolve("models:churn@champion").version == 1
    registry.move("churn", {"challenger": 1}, by="me")
    assert [move.by for move in registry.history("churn")] == ["somebody in MLflow", "me"]
    check_agreed(registry, client, "churn")


def test_a_version_that_was_registered_with_mlflow_itself_is_none_here(churn: MlflowRegistry, client: Any) -> None:
    made = client.create_model_version("churn", "s3://elsewhere/model", await_creation_for=None)
    assert made.version == "4"
    assert [version.version for version in churn.versions("churn")] == [1, 2, 3]
    client.set_registered_model_alias("churn", "champion", "4")
    assert churn.aliases("churn") == {"champion": 4, "previous": 1}
    for use in (
        lambda: churn.resolve("models:churn@champion"),
        lambda: churn.version("churn", 4),
        lambda: churn.move("churn", {"shadow": 4, "challenger": 5}, by="me"),
        lambda: churn.move("churn", {"challenger": 5}, by="me"),
        lambda: churn.delete("churn", 4, by="me"),
    ):
        with pytest.raises(
            UnknownVersion, match=r"version 4 of churn was registered with MLflow itself|has no version 5"
        ):
            use()
    with pytest.raises(UnknownVersion, match="expected one that a step of kind register has made"):
        churn.resolve("models:churn@champion")


def test_a_champion_that_was_registered_with_mlflow_itself_can_be_replaced(churn: MlflowRegistry, client: Any) -> None:
    client.create_model_version("churn", "s3://elsewhere/model", await_creation_for=None)
    client.set_registered_model_alias("churn", "champion", "4")
    promote(churn, "churn", 2, by="me")
    assert churn.aliases("churn") == {"champion": 2, "previous": 4}
    assert churn.resolve("models:churn@champion").version == 2
    check_agreed(churn, client, "churn")


def test_a_version_that_was_deleted_in_mlflow_itself_is_gone_with_its_aliases(
    churn: MlflowRegistry, client: Any, make_model: Make
) -> None:
    content = churn.register("churn", make_model(b"again"), by="me")[0]
    promote(churn, "churn", 4, by="me")
    client.delete_model_version("churn", "4")
    assert churn.aliases("churn") == {"previous": 1}
    for use in (lambda: churn.version("churn", 4), lambda: churn.move("churn", {"champion": 4}, by="me")):
        with pytest.raises(UnknownVersion, match="churn has no version 4; it has 1, 2, 3"):
            use()
    promote(churn, "churn", 2, by="me")
    assert [move.changed for move in churn.history("churn")[-2:]] == [{"champion": None}, {"champion": 2}]
    check_agreed(churn, client, "churn")
    again, created = churn.register("churn", make_model(b"again"), by="me")
    assert (again.version, created, again.digest) == (5, True, content.digest)


def test_a_model_that_was_deleted_in_mlflow_and_made_again_has_no_aliases_of_the_old_one(
    churn: MlflowRegistry, client: Any, make_model: Make
) -> None:
    promote(churn, "churn", 2, by="ann")
    client.delete_registered_model("churn")
    with pytest.raises(UnknownModel):
        churn.aliases("churn")
    version, _ = churn.register("churn", make_model(), by="me")
    assert version.version == 1
    assert churn.aliases("churn") == {}
    promote(churn, "churn", 1, by="me")
    assert [move.changed for move in churn.history("churn")[-2:]] == [
        {"champion": None, "previous": None},
        {"champion": 1},
    ]
    check_agreed(churn, client, "churn")


def test_a_model_that_was_renamed_in_mlflow_is_whole_again_under_its_old_name(
    churn: MlflowRegistry, client: Any
) -> None:
    before = churn.versions("churn")
    client.rename_registered_model("churn", "other")
    with pytest.raises(DocumentInvalid, match="is missing, although the tags of version 1 of other name it"):
        churn.versions("other")
    client.rename_registered_model("other", "churn")
    assert churn.versions("churn") == before
    assert churn.resolve("models:churn@champion").version == 1
    check_agreed(churn, client, "churn")


def test_an_alias_that_is_put_on_a_version_that_is_being_deleted_is_none(
    churn: MlflowRegistry, client: Any, connect: Open
) -> None:
    registry = connect()
    between(registry, "delete_version", die)
    with pytest.raises(Killed):
        registry.delete("churn", 3, by="me")
    client.set_registered_model_alias("churn", "shadow", "3")
    assert churn.aliases("churn") == {"champion": 1}
    churn.move("churn", {"challenger": 2}, by="me")
    churn.delete("churn", 3, by="me")
    check_agreed(churn, client, "churn")


def test_mlflows_own_client_sees_what_is_registered(
    empty_mlflow: RunningServer, client: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from tests.registry.conftest import maker

    store: Store = request.getfixturevalue("file_store")
    facts = Facts(
        metrics={"auc": 0.912345678},
        origin=Origin(
            instance="prod", pipeline="churn", run="manual__1", step="fit", generation=1, try_=1, attempt="0a"
        ),
        git_commit="0123abc",
        description="The first one.",
    )
    registry = MlflowRegistry(store, "prod", empty_mlflow.url)
    version, _ = registry.register("churn", maker(store, tmp_path)(), by="dag churn", facts=facts)
    promote(registry, "churn", 1, by="me")
    assert version.uri.startswith("file://")
    found = client.get_model_version_by_alias("churn", "champion")
    assert (found.version, found.description) == ("1", "The first one.")
    assert found.source == f"mlops-{version.uri}"
    assert found.tags == {
        "mlops_by": "dag churn",
        "mlops_digest": version.digest,
        "mlops_folder": store.key(version.uri).removeprefix("prod/_mlflow/churn/").rpartition("/")[0],
        "mlops_git_commit": "0123abc",
        "mlops_instance": "prod",
        "mlops_metric.auc": "0.912346",
        "mlops_pipeline": "churn",
        "mlops_run": "manual__1",
        "mlops_step": "fit",
    }
    assert client.get_registered_model("churn").aliases == {"champion": "1"}
    assert dict(client.get_registered_model("churn").tags) == {MOVE_TAG: "1"}


def test_mlflow_is_told_where_a_model_lies_in_a_bucket(
    empty_mlflow: RunningServer, client: Any, s3_store: Store, tmp_path: Path
) -> None:
    from tests.registry.conftest import maker

    registry = MlflowRegistry(s3_store, "prod", empty_mlflow.url)
    version, _ = registry.register("churn", maker(s3_store, tmp_path)(files=TREE), by="me")
    assert version.uri.startswith("s3://")
    assert client.get_model_version("churn", "1").source == version.uri
    assert client.get_model_version_download_uri("churn", "1") == version.uri


def test_a_description_that_is_too_long_for_mlflows_database_is_shortened_there_alone(
    registry: MlflowRegistry, client: Any, make_model: Make
) -> None:
    """SQLite takes any length, PostgreSQL and MySQL take 5000 characters and fail at more."""
    text = "wörter " * 1400
    version, _ = registry.register("churn", make_model(), by="me", facts=Facts(description=text))
    assert version.description == text
    told = client.get_model_version("churn", "1").description
    assert len(told) == 5000
    assert text.startswith(told[:-1])


def test_a_place_that_is_too_long_for_mlflows_database_is_that_of_the_folder(
    registry: MlflowRegistry, client: Any, make_model: Make
) -> None:
    artifact = make_model(file="x" * 200)
    version, _ = registry.register("c" * 128, artifact, by="me")
    told = client.get_model_version("c" * 128, "1").source
    assert len(version.uri) > 500 > len(told)
    assert f"mlops-{version.uri}" == f"{told}/{'x' * 200}"


# What is believed


def retag(client: Any, tags: Mapping[str, str], number: int = 2) -> None:
    for tag, value in tags.items():
        client.set_model_version_tag("churn", str(number), tag, value)


FOLDER = "files/sha256-" + "0" * 64 + "/0/" + "a" * 16


@pytest.mark.parametrize(
    "folder",
    [
        "../other/" + FOLDER,
        "files/../../../other",
        "..",
        "",
        "/etc",
        FOLDER + "/..",
        FOLDER + "\n",
        "x" * 5000,
        "\N{SNOWMAN}",
    ],
    ids=["before", "within", "up", "empty", "root", "after", "line", "huge", "snowman"],
)
def test_a_version_whose_tags_lead_elsewhere_is_none_of_ours(
    churn: MlflowRegistry, client: Any, store: Store, folder: str
) -> None:
    other = store.key(churn.version("churn", 1).uri)
    retag(client, {FOLDER_TAG: folder})
    assert [version.version for version in churn.versions("churn")] == [1, 3]
    for use in (
        lambda: churn.version("churn", 2),
        lambda: churn.move("churn", {"champion": 2}, by="me"),
        lambda: churn.delete("churn", 2, by="me"),
    ):
        with pytest.raises(UnknownVersion, match="registered with MLflow itself"):
            use()
    assert store.exists(other)


@pytest.mark.parametrize(
    "digest", ["sha256:" + "0" * 64, "none", "", "x" * 5000], ids=["other", "none", "empty", "huge"]
)
def test_a_version_whose_digest_is_not_that_of_its_record_is_named(
    churn: MlflowRegistry, client: Any, digest: str
) -> None:
    retag(client, {DIGEST_TAG: digest})
    for use in (
        lambda: churn.version("churn", 2),
        lambda: churn.versions("churn"),
        lambda: churn.move("churn", {"champion": 2}, by="me"),
        lambda: churn.delete("churn", 2, by="me"),
    ):
        with pytest.raises(DocumentInvalid, match="version 2 of churn") as failure:
            use()
        assert len(str(failure.value)) < 1000


def test_a_version_whose_folder_is_nowhere_or_another_models_is_named(
    churn: MlflowRegistry, client: Any, store: Store, make_model: Make
) -> None:
    other, _ = churn.register("other", make_model(), by="me")
    theirs = client.get_model_version("other", "1").tags
    for tags in ({FOLDER_TAG: FOLDER, DIGEST_TAG: "sha256:" + "0" * 64}, theirs):
        retag(client, tags)
        for use in (
            lambda: churn.version("churn", 2),
            lambda: churn.versions("churn"),
            lambda: churn.delete("churn", 2, by="me"),
        ):
            with pytest.raises(DocumentInvalid, match=r"\.json: is missing.* version 2 of churn"):
                use()
    assert store.digest(store.key(other.uri)).digest == other.digest
    assert [version.version for version in churn.versions("other")] == [1]


def test_of_two_versions_that_a_repeated_request_left_each_can_be_deleted_and_the_other_one_is_whole(
    churn: MlflowRegistry, client: Any, connect: Open, store: Store, make_model: Make
) -> None:
    """MLflow's client asks again where it heard no answer; both versions have the same files."""
    artifact = make_model()
    for deleted, left in ((5, 4), (6, 7)):
        registry = connect()
        honest = registry._server.create_version

        def twice(*values: Any, honest: Any = honest) -> int:
            honest(*values)
            honest(*values)
            raise Killed

        registry._server.create_version = twice  # type: ignore[method-assign]
        with pytest.raises(Killed):
            registry.register("churn", artifact, by="me")
        churn.delete("churn", deleted, by="me")
        assert [version.version for version in churn.versions("churn")] == [1, 2, 3, left]
        version, created = churn.register("churn", artifact, by="me")
        assert (version.version, created) == (left, False)
        assert store.digest(store.key(version.uri)).digest == artifact.digest
        churn.delete("churn", left, by="me")
        assert folders_of(store, artifact.digest) == []


def test_a_version_that_claims_the_files_of_another_one_takes_nothing_with_it(
    churn: MlflowRegistry, client: Any, store: Store
) -> None:
    """Whoever may write to MLflow may copy the tags of a version to another one; deleting that one spares the files."""
    first = churn.version("churn", 1)
    client.create_model_version(
        "churn", "s3://elsewhere/model", tags=client.get_model_version("churn", "1").tags, await_creation_for=None
    )
    assert [version.version for version in churn.versions("churn")] == [1, 2, 3]
    churn.delete("churn", 4, by="me")
    assert churn.resolve("models:churn@champion") == first
    assert store.digest(store.key(first.uri)).digest == first.digest


def test_aliases_that_are_none_for_us_are_looked_past_and_left_alone(churn: MlflowRegistry, client: Any) -> None:
    others = {"Champion": "2", "1st": "2", "ünï": "3", "x" * 200: "1"}
    for alias, number in others.items():
        client.set_registered_model_alias("churn", alias, number)
    assert churn.aliases("churn") == {"champion": 1}
    promote(churn, "churn", 3, by="me")
    assert [move.by for move in churn.history("churn")] == ["ann", "me"]
    assert client.get_registered_model("churn").aliases == {**others, "champion": "3", "previous": "1"}


@pytest.mark.parametrize("value", ["x", "", "-1", "99", "1.0", "٣", "9" * 5000])
def test_a_move_tag_that_is_no_move_leaves_the_log_to_hold(churn: MlflowRegistry, client: Any, value: str) -> None:
    client.set_registered_model_tag("churn", MOVE_TAG, value)
    client.set_registered_model_alias("churn", "champion", "2")
    assert churn.aliases("churn") == {"champion": 1}
    churn.move("churn", {"challenger": 3}, by="me")
    assert churn.aliases("churn") == {"challenger": 3, "champion": 1}
    check_agreed(churn, client, "churn")


@pytest.mark.parametrize("value", ["x", "", "9" * 5000, LONG_AGO, "inf", "nan", "1e999"])
def test_a_move_that_never_ended_holds_nobody_up(churn: MlflowRegistry, client: Any, value: str) -> None:
    client.set_registered_model_tag("churn", f"{MOVING_TAG}.0a1b2c3d", value)
    client.set_registered_model_alias("churn", "champion", "2")
    assert churn.aliases("churn") == {"champion": 2, "previous": 1}
    churn.move("churn", {"challenger": 3}, by="me")
    assert churn.aliases("churn") == {"challenger": 3, "champion": 2, "previous": 1}
    assert dict(client.get_registered_model("churn").tags) == {MOVE_TAG: "3"}


def test_models_whose_names_are_none_for_us_are_not_listed(churn: MlflowRegistry, client: Any) -> None:
    for name in ("a model", "ünï", "x" * 200, "'"):
        client.create_registered_model(name)
    assert churn.models() == ["churn"]


# A server that is busy, away, or something else


class Lock:
    """Holds a server's database, so that nobody else reads or writes it."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(database, timeout=30, isolation_level=None, check_same_thread=False)

    def take(self) -> None:
        self._connection.execute("BEGIN EXCLUSIVE")

    def give(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def take_for(self, seconds: float) -> None:
        self.take()
        threading.Timer(seconds, self.give).start()


@pytest.fixture
def lock(empty_mlflow: RunningServer) -> Iterator[Lock]:
    found = Lock(empty_mlflow.database)
    yield found
    found.give()
    found._connection.close()


@pytest.mark.parametrize("request_", ["create_version", "set_alias", "set_model_tag", "delete_version"])
def test_a_database_that_is_locked_for_a_moment_is_waited_for(
    connect: Open, client: Any, lock: Lock, make_model: Make, request_: str
) -> None:
    registry = connect()
    seen = between(registry, request_, lambda: lock.take_for(1))
    registry.register("churn", make_model(), by="me")
    registry.register("churn", make_model(), by="me")
    registry.move("churn", {"champion": 1}, by="me")
    registry.delete("churn", 2, by="me")
    assert request_ in seen.calls
    assert [version.version for version in connect().versions("churn")] == [1]
    check_agreed(connect(), client, "churn")


@pytest.mark.usefixtures("few_retries")
def test_a_database_that_stays_locked_fails_the_registration_and_the_next_one_makes_one_version(
    connect: Open, lock: Lock, store: Store, make_model: Make
) -> None:
    connect().register("churn", make_model(), by="me")
    artifact = make_model()
    registry = connect()
    between(registry, "create_version", lock.take)
    with pytest.raises(StoreFailed, match="MLflow server at http://127.0.0.1:.*try again"):
        registry.register("churn", artifact, by="me")
    lock.give()
    version, _ = connect().register("churn", artifact, by="me")
    assert [found.version for found in connect().versions("churn")] == [1, 2]
    # What was given up here, MLflow may have done since; it is looked past.
    assert connect().register("churn", artifact, by="me") == (version, False)
    assert store.digest(store.key(version.uri)).digest == artifact.digest


@pytest.mark.usefixtures("few_retries")
def test_a_database_that_stays_locked_fails_the_move_which_was_made_for_all_aliases_or_none(
    connect: Open, client: Any, lock: Lock, make_model: Make
) -> None:
    for _ in range(2):
        connect().register("churn", make_model(), by="me")
    promote(connect(), "churn", 1, by="me")
    registry = connect()
    between(registry, "set_alias", lock.take)
    with pytest.raises(StoreFailed, match="MLflow server at http://127.0.0.1:.*try again"):
        promote(registry, "churn", 2, by="me")
    lock.give()
    # The entry of the log was added before; that is the move.
    assert connect().aliases("churn") == {"champion": 2, "previous": 1}
    connect().move("churn", {"champion": 2}, by="me")
    assert len(connect().history("churn")) == 2
    check_agreed(connect(), client, "churn")


@contextlib.contextmanager
def answering(status: int, body: bytes, kind: str = "application/json") -> Iterator[str]:
    """A server that has one answer to everything; its address."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the names that http.server asks for

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def all_uses(registry: MlflowRegistry, make_model: Make) -> list[Callable[[], Any]]:
    artifact = make_model()
    return [
        lambda: registry.register("churn", artifact, by="me"),
        lambda: registry.version("churn", 1),
        lambda: registry.versions("churn"),
        registry.models,
        lambda: registry.aliases("churn"),
        lambda: registry.resolve("models:churn@champion"),
        lambda: registry.resolve("models:churn/1"),
        lambda: registry.move("churn", {"champion": 1}, by="me"),
        lambda: registry.delete("churn", 1, by="me"),
        lambda: registry.history("churn"),
    ]


@pytest.mark.mlflow
@pytest.mark.usefixtures("few_retries")
def test_a_server_that_is_away_is_named_in_time(store: Store, make_model: Make) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for use in all_uses(MlflowRegistry(store, "prod", url), make_model):
        began = time.monotonic()
        with pytest.raises(StoreFailed, match=f"the MLflow server at {url}: .*try again"):
            use()
        assert time.monotonic() - began < 20


@pytest.mark.mlflow
def test_how_long_a_server_may_be_away_is_bounded_unless_somebody_says_otherwise(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    MlflowRegistry(store, "prod", "http://127.0.0.1:1")
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (30, 5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    MlflowRegistry(store, "prod", "http://127.0.0.1:1")
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 2


@pytest.mark.mlflow
@pytest.mark.usefixtures("few_retries")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b"You are not authenticated."),
        (403, b"Permission denied"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'),
        (401, b"<html>" + b"x" * 100_000),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_apart(
    store: Store, make_model: Make, status: int, body: bytes
) -> None:
    with answering(status, body) as url:
        for use in all_uses(MlflowRegistry(store, "prod", url), make_model):
            with pytest.raises(RegistryDenied, match="check the credentials of its connection") as failure:
                use()
            assert url in str(failure.value)
            assert len(str(failure.value)) < 1000


@pytest.mark.mlflow
@pytest.mark.usefixtures("few_retries")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>please log in</html>"),
        (200, b""),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"registered_model": 1, "registered_models": 1, "model_versions": "x", "model_version": []}'),
        (200, b'{"model_version": {"name": "churn", "version": "x"}, "registered_model": {"name": "x"}}'),
        (404, b"nothing here"),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}'),
        (500, b"oops"),
        (503, b"later"),
        (302, b"elsewhere"),
    ],
)
def test_what_answers_but_is_no_mlflow_server_fails_as_a_store_does(
    store: Store, make_model: Make, status: int, body: bytes
) -> None:
    with answering(status, body) as url:
        uses = all_uses(MlflowRegistry(store, "prod", url), make_model)
        for use in uses:
            # A server without models answers some of these questions in the same words.
            with pytest.raises(
                StoreFailed, match=f"the MLflow server at {url}: |others registered versions"
            ) as failure:
                if use() in ([], ()):
                    raise StoreFailed(f"the MLflow server at {url}: has nothing")
            assert len(str(failure.value)) < 1000


@pytest.mark.mlflow
def test_credentials_are_not_shown(store: Store, monkeypatch: pytest.MonkeyPatch, make_model: Make) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cr3t")
    with answering(401, b"no") as url, pytest.raises(RegistryDenied) as failure:
        MlflowRegistry(store, "prod", url).register("churn", make_model(), by="me")
    assert "s3cr3t" not in str(failure.value)


def test_who_may_read_and_not_write_leaves_no_files(connect: Open, store: Store, make_model: Make) -> None:
    artifact = make_model()
    for request in ("create_model", "create_version"):
        registry = connect()

        def deny() -> None:
            raise RegistryDenied("no")

        between(registry, request, deny)
        with pytest.raises(RegistryDenied):
            registry.register("churn", artifact, by="me")
        assert folders_of(store, artifact.digest) == []


def test_a_client_that_is_not_installed_is_named_with_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "mlflow" or name.startswith("mlflow.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        ArtifactError, match=r"http://nowhere.*pip install 'airflow-provider-mlops\[mlflow\]'"
    ) as failure:
        MlflowRegistry(store, "prod", "http://nowhere")
    assert not isinstance(failure.value, StoreFailed)


def test_a_move_that_is_under_way_is_one_for_ten_minutes(
    churn: MlflowRegistry, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set_registered_model_tag("churn", f"{MOVING_TAG}.0a1b2c3d", str(int(time.time())))
    client.set_registered_model_alias("churn", "champion", "2")
    assert churn.aliases("churn") == {"champion": 1}
    monkeypatch.setattr(registry_module, "_PATIENCE", -1.0)
    assert churn.aliases("churn") == {"champion": 2, "previous": 1}
