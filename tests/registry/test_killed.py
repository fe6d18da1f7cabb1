# SPDX-License-Identifier: Apache-2.0
"""
Killed at any moment: whoever comes next finds a registry that can be read, and calling once more leads to the same end.

The process kills itself with SIGKILL, just before the first thing that it would change, then before the second one, and
so on until it comes through; in a folder that is every system call, on S3 every request.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.registry import FileRegistry, UnknownModel, promote

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Store
    from tests.registry.conftest import Make

pytestmark = pytest.mark.slow

CHANGES = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}
REQUESTS = {"put_object", "copy_object", "delete_objects", "delete_object", "create_multipart_upload"}


class Countdown:
    """Kills this process before the change with this number."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_folder(root: str, change: Countdown) -> None:
    """Before each system call that changes the folder, and in the middle of each file that is copied."""

    def hook(event: str, values: tuple[Any, ...]) -> None:
        writes = event in CHANGES or (event == "open" and isinstance(values[2], int) and values[2] & os.O_ACCMODE)
        if writes and any(isinstance(value, str | os.PathLike) and str(value).startswith(root) for value in values):
            change()

    def by_half(reader: Any, writer: Any, _length: int = 0) -> None:
        data = reader.read()
        writer.write(data[: len(data) // 2])
        writer.flush()
        change()
        writer.write(data[len(data) // 2 :])

    shutil.copyfileobj = by_half
    sys.addaudithook(hook)


def die_on_s3(change: Countdown) -> None:
    """Before each request that changes the bucket."""
    import s3fs

    honest = s3fs.S3FileSystem._call_s3

    async def call(self: Any, method: str, *values: Any, **keywords: Any) -> Any:
        if method in REQUESTS:
            change()
        return await honest(self, method, *values, **keywords)

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem._call_s3 = call


def killed_at(store: Store, number: int, job: Callable[[], Any]) -> bool:
    """Do a job in a process that is killed before its change with that number; whether it came that far."""

    def child() -> None:
        change = Countdown(number)
        root = store.local_path("x")
        if root is None:
            die_on_s3(change)
        else:
            die_in_a_folder(str(root.parent), change)
        job()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.fixture
def names() -> Iterator[str]:
    """Names of models that nothing is registered under yet."""
    return (f"model-{number}" for number in itertools.count(1))


def whole(store: Store, registry: FileRegistry, name: str, artifact: Artifact) -> bool:
    """Whether the content is a version: a whole one, or none at all."""
    try:
        versions = registry.versions(name)
    except UnknownModel:
        return False
    assert len(versions) == 1
    assert store.digest(store.key(versions[0].uri)).digest == artifact.digest
    return True


def files_below(store: Store, name: str, digest: str) -> list[str]:
    folder = f"prod/_models/{name}/files/{digest.replace(':', '-')}"
    return [files for turn in store.list(folder) for files in store.list(turn)]


def test_a_registration_that_is_killed_anywhere_is_none_or_whole_and_the_next_one_ends_the_same(
    store: Store, make_model: Make, names: Iterator[str]
) -> None:
    artifact = make_model(files={"a": b"1" * 1000, "b/c": b"2" * 1000})
    registry = FileRegistry(store, "prod")
    # The first put of a process asks twice, to see whether the server keeps to the condition.
    registry.register("other", artifact, by="me")
    killed, was_whole = 0, 0
    for number, name in enumerate(names, 1):
        if not killed_at(store, number, lambda name=name: FileRegistry(store, "prod").register(name, artifact, by="w")):
            break
        killed += 1
        was_whole += whole(store, registry, name, artifact)
        version, created = registry.register(name, artifact, by="me")
        assert version.version == 1
        assert created == (version.registered_by == "me")
        assert whole(store, registry, name, artifact)
        assert len(files_below(store, name, artifact.digest)) == 1
    assert killed >= (20 if store.local_path("x") else 3)
    assert was_whole < killed


def test_a_deletion_that_is_killed_anywhere_is_ended_by_the_next_one(
    store: Store, make_model: Make, names: Iterator[str]
) -> None:
    artifact = make_model(files={"a": b"1", "b": b"2"})
    registry = FileRegistry(store, "prod")
    killed = 0
    for number, name in enumerate(names, 1):
        registry.register(name, artifact, by="me")
        if not killed_at(store, number, lambda name=name: FileRegistry(store, "prod").delete(name, 1, by="w")):
            break
        killed += 1
        if registry.versions(name):
            assert whole(store, registry, name, artifact)
        registry.delete(name, 1, by="me")
        assert files_below(store, name, artifact.digest) == []
        assert [move.deleted for move in registry.history(name)] == [1]
        assert registry.register(name, artifact, by="me")[0].version == 2
    assert killed >= 2


def test_a_promotion_that_is_killed_anywhere_was_made_or_not_and_the_next_one_ends_the_same(
    store: Store, make_model: Make, names: Iterator[str]
) -> None:
    made = [make_model(), make_model()]
    registry = FileRegistry(store, "prod")
    killed = 0
    for number, name in enumerate(names, 1):
        for artifact in made:
            registry.register(name, artifact, by="me")
        promote(registry, name, 1, by="me")
        if not killed_at(store, number, lambda name=name: promote(FileRegistry(store, "prod"), name, 2, by="w")):
            break
        killed += 1
        assert registry.aliases(name) in ({"champion": 1}, {"champion": 2, "previous": 1})
        promote(registry, name, 2, by="me")
        assert registry.aliases(name) == {"champion": 2, "previous": 1}
        assert len(registry.history(name)) == 2
    assert killed >= 1


def test_a_copy_that_is_killed_in_the_middle_is_not_there(file_store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).write_bytes(name.encode() * 1000)
    file_store.upload(tmp_path / "tree", "from/tree")
    killed = 0
    for number in itertools.count(1):
        target = f"to/{number}/tree"
        if not killed_at(file_store, number, lambda target=target: file_store.copy("from/tree", target)):
            break
        killed += 1
        if file_store.exists(target):
            assert file_store.digest(target).digest == file_store.digest("from/tree").digest
    assert killed >= 6
