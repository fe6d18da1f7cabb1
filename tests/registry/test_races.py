# SPDX-License-Identifier: Apache-2.0
"""Many at the same time: nothing is lost, nothing is there twice, and no alias points to what is deleted."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.registry import (
    FileRegistry,
    ModelRegistry,
    Move,
    UnknownVersion,
    VersionInUse,
    promote,
    rollback,
)

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Store
    from tests.registry.conftest import Make

WRITERS = 10


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all jobs in threads that begin at the same moment; results, or the failures."""
    together = threading.Barrier(len(jobs))

    def do(job: Callable[[], Any]) -> Any:
        together.wait(30)
        try:
            return job()
        except Exception as failure:
            return failure

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(do, jobs))


def check_log(log: Sequence[Move]) -> None:
    """Each entry follows from the one before it: nothing is lost, nothing is changed in passing."""
    aliases: dict[str, int] = {}
    deleted: set[int] = set()
    for number, move in enumerate(log, 1):
        assert move.number == number
        aliases = {alias: to for alias, to in {**aliases, **move.changed}.items() if to is not None}
        deleted |= {move.deleted} - {None}
        assert move.aliases == aliases
        assert set(move.all_deleted) == deleted
        assert not deleted & set(aliases.values())


def test_all_who_register_the_same_content_get_one_version(
    registry: ModelRegistry, store: Store, make_model: Make
) -> None:
    made = [make_model(files={"a": b"1" * 1000, "b": b"2"}) for _ in range(WRITERS)]
    done = at_once([lambda artifact=artifact: registry.register("churn", artifact, by="me") for artifact in made])
    assert len({version.uri for version, _ in done}) == 1
    assert [created for _, created in done].count(True) == 1
    assert [version.version for version in registry.versions("churn")] == [1]
    assert store.digest(store.key(done[0][0].uri)).digest == made[0].digest


def test_all_who_register_different_content_get_versions_of_their_own(
    registry: ModelRegistry, store: Store, make_model: Make
) -> None:
    made = [make_model() for _ in range(WRITERS)]
    done = at_once([lambda artifact=artifact: registry.register("churn", artifact, by="me") for artifact in made])
    assert sorted(version.version for version, _ in done) == list(range(1, WRITERS + 1))
    for artifact, (version, created) in zip(made, done, strict=True):
        assert created
        assert version.digest == artifact.digest
        assert store.digest(store.key(version.uri)).digest == artifact.digest


def test_of_ten_who_promote_each_is_in_the_log_once_and_the_last_one_is_the_champion(
    registry: ModelRegistry, make_model: Make
) -> None:
    for _ in range(WRITERS):
        registry.register("churn", make_model(), by="me")
    numbers = list(range(1, WRITERS + 1))
    done = at_once([lambda number=number: promote(registry, "churn", number, by=f"w{number}") for number in numbers])
    log = registry.history("churn")
    check_log(log)
    assert sorted(move.changed["champion"] for move in log) == numbers
    assert {promotion.move.id for promotion in done} == {move.id for move in log}
    for before, move in zip(log, log[1:], strict=False):
        assert move.aliases["previous"] == before.aliases["champion"]
    assert registry.aliases("churn") == {
        "champion": log[-1].changed["champion"],
        "previous": log[-2].changed["champion"],
    }


def test_of_ten_who_expect_the_same_state_one_moves(registry: ModelRegistry, make_model: Make) -> None:
    for _ in range(2):
        registry.register("churn", make_model(), by="me")
    registry.move("churn", {"champion": 1}, by="me")
    move = {"champion": 2, "previous": 1}
    done = at_once([lambda: registry.move("churn", move, by="w", expected={"champion": 1})] * WRITERS)
    assert [type(found).__name__ for found in done].count("AliasMoved") == WRITERS - 1
    assert [type(found).__name__ for found in done].count("Move") == 1
    check_log(registry.history("churn"))


def test_of_ten_who_roll_back_the_same_champion_one_does(registry: ModelRegistry, make_model: Make) -> None:
    for number in (1, 2):
        registry.register("churn", make_model(), by="me")
        promote(registry, "churn", number, by="me")
    done = at_once([lambda: rollback(registry, "churn", by="w", only_from=2)] * WRITERS)
    assert sum(found.move is not None for found in done) == 1
    assert registry.aliases("churn") == {"champion": 1, "previous": 2}


def test_of_a_promotion_and_a_deletion_of_one_version_one_is_refused(registry: ModelRegistry, make_model: Make) -> None:
    outcomes = set()
    for number in range(1, 6):
        registry.register("churn", make_model(), by="me")
        promoted, deleted = at_once(
            [
                lambda number=number: promote(registry, "churn", number, by="p"),
                lambda number=number: registry.delete("churn", number, by="d"),
            ]
        )
        refused = [isinstance(promoted, UnknownVersion), isinstance(deleted, VersionInUse)]
        assert refused.count(True) == 1, (promoted, deleted)
        outcomes.add(refused.index(True))
        check_log(registry.history("churn"))
    assert outcomes <= {0, 1}


def test_who_registers_what_another_one_deletes_gets_a_whole_version_or_one_that_was_deleted_since(
    registry: ModelRegistry, store: Store, make_model: Make
) -> None:
    artifact = make_model(files={"a": b"1" * 1000, "b": b"2"})
    for _ in range(4):
        first, _ = registry.register("churn", artifact, by="me")
        done = at_once(
            [
                *[lambda: registry.register("churn", artifact, by="w")] * 3,
                *[lambda number=first.version: registry.delete("churn", number, by="d")] * 2,
            ]
        )
        assert not [failure for failure in done if isinstance(failure, Exception)]
        living = registry.versions("churn")
        assert len(living) <= 1
        for version in living:
            assert store.digest(store.key(version.uri)).digest == artifact.digest
    log = registry.history("churn")
    check_log(log)
    assert len({move.deleted for move in log}) == len(log)


def _in_processes(jobs: Sequence[Callable[[], Any]]) -> None:
    """Do all jobs in processes that begin at the same moment."""
    context = multiprocessing.get_context("fork")
    together = context.Barrier(len(jobs))

    def do(job: Callable[[], Any]) -> None:
        together.wait(30)
        job()

    children = [context.Process(target=do, args=(job,)) for job in jobs]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * len(jobs)


@pytest.fixture
def made(file_store: Store, tmp_path: Any) -> list[Artifact]:
    from tests.registry.conftest import maker

    make = maker(file_store, tmp_path)
    return [make(b"%d" % (number // 2)) for number in range(WRITERS)]


def test_processes_get_one_version_for_each_content_and_lose_no_promotion(
    file_store: Store, made: list[Artifact]
) -> None:
    """Each content is registered and promoted by two of them."""

    def job(artifact: Artifact) -> None:
        registry = FileRegistry(file_store, "prod")
        version, _ = registry.register("churn", artifact, by="w")
        promote(registry, "churn", version.version, by="w")

    _in_processes([lambda artifact=artifact: job(artifact) for artifact in made])
    registry = FileRegistry(file_store, "prod")
    versions = registry.versions("churn")
    assert [version.version for version in versions] == list(range(1, WRITERS // 2 + 1))
    assert {version.digest for version in versions} == {artifact.digest for artifact in made}
    log = registry.history("churn")
    check_log(log)
    assert {move.changed["champion"] for move in log} == {version.version for version in versions}
    for version in versions:
        assert file_store.digest(file_store.key(version.uri)).digest == version.digest
