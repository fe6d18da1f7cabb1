# SPDX-License-Identifier: Apache-2.0
"""The registry of files: where things lie, what a crash leaves, and what is believed of what lies there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.artifacts import DocumentInvalid, NotFound, Store
from airflow_mlops.artifacts.strict_json import canonical
from airflow_mlops.registry import Facts, FileRegistry, RegistrationRefused, rollback
from airflow_mlops.registry.records import MoveRecord, VersionRecord
from airflow_mlops.registry.shelf import Shelf

if TYPE_CHECKING:
    from tests.registry.conftest import Make

MODEL = "prod/_models/churn"
TREE = {"a": b"1" * 100, "b/c": b"2" * 100}


def files_of(store: Store, key: str = MODEL) -> list[str]:
    """Keys of all files below a key; empty folders do not count."""
    if below := [file for child in store.list(key) for file in files_of(store, child)]:
        return below
    place = store.local_path(key)
    return [key] if (store.exists(key) if place is None else place.is_file()) else []


@pytest.fixture
def files(store: Store) -> FileRegistry:
    return FileRegistry(store, "prod")


def test_everything_lies_where_the_documentation_says(files: FileRegistry, store: Store, make_model: Make) -> None:
    artifact = make_model()
    version, _ = files.register("churn", artifact, by="me")
    files.move("churn", {"champion": 1}, by="me")
    folder = f"{MODEL}/files/{artifact.digest.replace(':', '-')}/0"
    name = store.list(folder)[0].rpartition("/")[2]
    assert files_of(store) == [f"{folder}/{name}/model.skops", f"{MODEL}/moves/1.json", f"{MODEL}/versions/1.json"]
    assert version.uri == store.uri(f"{folder}/{name}/model.skops")


def test_a_registry_lies_beside_the_pipelines_of_its_installation_alone(store: Store, make_model: Make) -> None:
    one, other = FileRegistry(store, "prod"), FileRegistry(store, "Test")
    one.register("churn", make_model(), by="me")
    assert other.models() == []
    other.register("churn", make_model(), by="me")
    assert len(one.versions("churn")) == len(other.versions("churn")) == 1


def test_registering_again_reads_no_content_and_writes_nothing(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_model(files=TREE)
    files.register("churn", artifact, by="me")
    for name in ("copy", "digest", "upload", "put_if_absent", "delete_tree"):
        monkeypatch.setattr(store, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    assert files.register("churn", artifact, by="me")[1] is False


# What comes between


def once(action: Callable[[], Any]) -> Callable[[], None]:
    """Do something the first time, and nothing afterwards: it may come by here itself."""
    left = [action]

    def act() -> None:
        if left:
            left.pop()()

    return act


@pytest.mark.parametrize("files_", [None, TREE], ids=["file", "folder"])
def test_a_slow_writer_whose_content_was_registered_and_deleted_meanwhile_makes_a_whole_version(
    files: FileRegistry,
    store: Store,
    make_model: Make,
    monkeypatch: pytest.MonkeyPatch,
    files_: dict[str, bytes] | None,
) -> None:
    artifact = make_model(files=files_)
    other = FileRegistry(store, "prod")
    honest = Shelf.put
    between = once(lambda: (other.register("churn", artifact, by="other"), other.delete("churn", 1, by="other")))
    monkeypatch.setattr(Shelf, "put", lambda self, *values: (between(), honest(self, *values))[1])
    version, created = files.register("churn", artifact, by="me")
    assert (version.version, created, version.registered_by) == (2, True, "me")
    assert store.digest(store.key(version.uri)).digest == artifact.digest
    assert [key.rpartition("/")[2] for key in store.list(f"{MODEL}/files/{artifact.digest.replace(':', '-')}")] == ["1"]


def test_a_writer_who_tidies_up_late_takes_nothing_from_a_later_version(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_model()
    other = FileRegistry(store, "prod")
    honest = Shelf.tidy
    between = once(lambda: (other.delete("churn", 1, by="other"), other.register("churn", artifact, by="other")))
    monkeypatch.setattr(Shelf, "tidy", lambda self, *values: (between(), honest(self, *values))[1])
    files.register("churn", artifact, by="me")
    version = files.version("churn", 2)
    assert store.digest(store.key(version.uri)).digest == artifact.digest


@pytest.mark.parametrize("files_", [None, TREE], ids=["file", "folder"])
def test_a_writer_whose_copy_is_tidied_away_takes_the_version_of_the_faster_one(
    files: FileRegistry,
    store: Store,
    make_model: Make,
    monkeypatch: pytest.MonkeyPatch,
    files_: dict[str, bytes] | None,
) -> None:
    artifact = make_model(files=files_)
    other = FileRegistry(store, "prod")
    honest = store.copy
    between = once(lambda: other.register("churn", artifact, by="other"))
    monkeypatch.setattr(store, "copy", lambda *keys: (honest(*keys), between()))
    version, created = files.register("churn", artifact, by="me")
    assert (version.version, created, version.registered_by) == (1, False, "other")
    assert store.digest(store.key(version.uri)).digest == artifact.digest


def test_a_writer_whose_copy_is_tidied_away_for_a_version_that_is_deleted_at_once_makes_the_next_one(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_model(files=TREE)
    other = FileRegistry(store, "prod")
    honest = store.copy
    between = once(lambda: (other.register("churn", artifact, by="other"), other.delete("churn", 1, by="other")))
    monkeypatch.setattr(store, "copy", lambda *keys: (honest(*keys), between()))
    version, created = files.register("churn", artifact, by="me")
    assert (version.version, created) == (2, True)
    assert store.digest(store.key(version.uri)).digest == artifact.digest


def test_a_writer_who_loses_the_number_to_another_content_copies_nothing_again(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = make_model(), make_model()
    other = FileRegistry(store, "prod")
    honest_put, honest_copy, copied = Shelf.put, store.copy, []
    between = once(lambda: other.register("churn", theirs, by="other"))
    monkeypatch.setattr(Shelf, "put", lambda self, *values: (between(), honest_put(self, *values))[1])
    monkeypatch.setattr(store, "copy", lambda source, target: (copied.append(source), honest_copy(source, target)))
    assert files.register("churn", mine, by="me")[0].version == 2
    assert copied == [store.key(mine.uri), store.key(theirs.uri)]


def test_a_writer_who_does_not_hear_the_answer_is_told_that_it_was_done(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that asks again after a cut connection is told by the server that the key is taken: by itself."""
    honest = store.put_if_absent
    artifact = make_model()
    monkeypatch.setattr(store, "put_if_absent", lambda *values, **options: honest(*values, **options) and False)
    version, created = files.register("churn", artifact, by="me")
    assert (version.version, created) == (1, True)
    files.register("churn", make_model(), by="me")
    for number in (1, 2):
        assert files.move("churn", {"champion": number, "previous": 3 - number}, by="me") is not None
    assert rollback(files, "churn", by="me").move is not None
    assert files.aliases("churn") == {"champion": 1, "previous": 2}
    assert len(files.history("churn")) == 3
    assert store.digest(store.key(version.uri)).digest == artifact.digest


def test_a_listing_that_is_late_makes_no_second_version_and_loses_no_move(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders that are mounted from elsewhere may show what they held half a minute ago."""
    made = [make_model() for _ in range(3)]
    for artifact in made:
        files.register("churn", artifact, by="me")
    files.move("churn", {"champion": 1}, by="me")
    files.move("churn", {"champion": 2}, by="me")
    honest = store.list
    monkeypatch.setattr(
        store, "list", lambda key: [key for key in honest(key) if not key.endswith(("3.json", "s/2.json"))]
    )
    version, created = files.register("churn", made[2], by="me")
    assert (version.version, created) == (3, False)
    move = files.move("churn", {"challenger": 1}, by="me")
    assert (move.number, move.aliases) == (3, {"challenger": 1, "champion": 2})


def test_remains_of_killed_writers_are_gone_after_the_next_registration(
    files: FileRegistry, store: Store, make_model: Make
) -> None:
    artifact = make_model()
    folder = f"{MODEL}/files/{artifact.digest.replace(':', '-')}"
    store.put_if_absent(f"{folder}/0/{'a' * 16}/model.skops", b"half")
    files.register("churn", artifact, by="me")
    assert len(files_of(store, folder)) == 1
    store.put_if_absent(f"{folder}/0/{'b' * 16}/model.skops", b"half")
    files.register("churn", artifact, by="me")
    assert len(files_of(store, folder)) == 1
    files.delete("churn", 1, by="me")
    assert files_of(store, folder) == []
    store.put_if_absent(f"{folder}/0/{'c' * 16}/model.skops", b"late")
    store.put_if_absent(f"{folder}/2/{'d' * 16}/model.skops", b"somebody who comes later")
    files.register("churn", artifact, by="me")
    assert len(files_of(store, folder)) == 2
    assert not store.exists(f"{folder}/0")


def test_files_of_a_deleted_version_whose_deletion_was_interrupted_go_with_the_next_call(
    files: FileRegistry, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _ = files.register("churn", make_model(files=TREE), by="me")
    monkeypatch.setattr(Shelf, "clear", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.delete("churn", 1, by="me")
    monkeypatch.undo()
    assert store.exists(store.key(version.uri))
    assert files.versions("churn") == []
    assert files.delete("churn", 1, by="me") is None
    assert not store.exists(store.key(version.uri))
    assert len(files.history("churn")) == 1


def test_a_record_that_would_be_too_large_is_refused_and_leaves_no_files(
    files: FileRegistry, store: Store, make_model: Make
) -> None:
    for facts in (Facts(tags={"x": "y" * (2 << 20)}), Facts(metrics={"auc": float("nan")})):
        with pytest.raises(DocumentInvalid, match="the record of a version"):
            files.register("churn", make_model(), by="me", facts=facts)
    with pytest.raises(RegistrationRefused, match="registered_by"):
        files.register("churn", make_model(), by="x" * 1000)
    assert files_of(store) == []


class TestInAFolder:
    """What holds where the store is a folder of this machine."""

    @pytest.fixture
    def store(self, file_store: Store) -> Store:
        return file_store

    @pytest.fixture
    def root(self, file_store: Store) -> Path:
        return Path(file_store.url.removeprefix("file://"))

    def test_registered_files_can_be_read_but_not_written(
        self, files: FileRegistry, store: Store, make_model: Make
    ) -> None:
        version, _ = files.register("churn", make_model(files=TREE), by="me")
        for path in (place := store.local_path(store.key(version.uri))).rglob("*"):
            assert not path.stat().st_mode & 0o222
        assert stat.S_IMODE(place.stat().st_mode) == 0o555

    def test_a_copy_shares_no_file_with_the_run(self, files: FileRegistry, store: Store, make_model: Make) -> None:
        version, _ = files.register("churn", make_model(), by="me")
        assert os.stat(store.local_path(store.key(version.uri))).st_nlink == 1

    def test_a_store_can_be_moved_to_another_place(
        self, files: FileRegistry, root: Path, make_model: Make, tmp_path: Path
    ) -> None:
        files.register("churn", artifact := make_model(), by="me")
        root.rename(tmp_path / "elsewhere")
        moved = Store.open(f"file://{tmp_path}/elsewhere")
        version = FileRegistry(moved, "prod").version("churn", 1)
        assert moved.digest(moved.key(version.uri)).digest == artifact.digest

    def test_a_linked_model_is_refused(
        self, files: FileRegistry, store: Store, root: Path, make_model: Make, tmp_path: Path
    ) -> None:
        artifact = make_model(files=TREE)
        (tmp_path / "secret").write_bytes(TREE["a"])
        place = root / store.key(artifact.uri) / "a"
        place.unlink()
        place.symlink_to(tmp_path / "secret")
        with pytest.raises(Exception, match="symbolic link"):
            files.register("churn", artifact, by="me")
        assert files_of(store) == []

    def test_a_source_that_is_gone_is_named(self, files: FileRegistry, store: Store, make_model: Make) -> None:
        artifact = make_model()
        store.delete_tree(store.key(artifact.uri))
        with pytest.raises(NotFound, match=artifact.uri):
            files.register("churn", artifact, by="me")

    def changed(self, root: Path, name: str, change: Callable[[dict[str, Any]], Any] | bytes) -> str:
        path = root / MODEL / name
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            document = json.loads(path.read_bytes())
            replaced = change(document)
            path.write_bytes(canonical(document if replaced is None else replaced))
        return f"file://{path}"

    @pytest.mark.parametrize(
        "change",
        [
            b"", b"{", b"null", b"[]", b"\xff", b'{"version":1}', b'{"version":1,"version":1}', b"NaN",
            b"[" * 5000, b" " * (2 << 20),
            lambda d: d.update(version=2),
            lambda d: d.update(surprise=1),
            lambda d: d["model"].update(name="other"),
            lambda d: d["model"].update(version=2),
            lambda d: d["model"].update(version="1"),
            lambda d: d["model"].update(version=10**30),
            lambda d: d["model"].update(digest="none"),
            lambda d: d["model"].update(digest="sha256:" + "0" * 64),
            lambda d: d["model"].update(digest=d["model"]["digest"] + "\n"),
            lambda d: d["model"].update(size=-1),
            lambda d: d["model"].update(file="../../../../other"),
            lambda d: d["model"].update(file=".."),
            lambda d: d["model"].update(file="a\nb"),
            lambda d: d["model"].update(origin={"pipeline": "x"}),
            lambda d: d["model"].update(signature=[]),
            lambda d: d["model"].update(uri="s3://elsewhere"),
            lambda d: d.update(folder="files/../../../other/model"),
            lambda d: d.update(folder="../other/" + d["folder"]),
            lambda d: d.update(folder=d["folder"] + "\n"),
            lambda d: d.update(folder="files/sha256-" + "0" * 64 + "/0/" + "a" * 16),
        ],
    )  # fmt: skip
    def test_a_record_of_a_version_that_cannot_be_believed_is_named(
        self, files: FileRegistry, root: Path, make_model: Make, change: Any
    ) -> None:
        files.register("churn", make_model(), by="me")
        uri = self.changed(root, "versions/1.json", change)
        for use in (
            lambda: files.version("churn", 1),
            lambda: files.versions("churn"),
            lambda: files.register("churn", make_model(), by="me"),
            lambda: files.delete("churn", 1, by="me"),
            lambda: files.move("churn", {"champion": 1}, by="me"),
        ):
            with pytest.raises(DocumentInvalid) as failure:
                use()
            assert str(failure.value).startswith(uri)
            assert len(str(failure.value)) < 1000
            assert "run the step" not in str(failure.value)

    @pytest.mark.parametrize(
        "change",
        [
            b"", b"{}", b"null", b'{"version":1}',  b" " * (2 << 20),
            lambda d: d.update(version=2),
            lambda d: d.update(model="other"),
            lambda d: d["move"].update(number=3),
            lambda d: d["move"].update(aliases={"champion": "1"}),
            lambda d: d["move"].update(aliases={"champion": True}),
            lambda d: d["move"].update(all_deleted=None),
            lambda d: d["move"].update(surprise=None),
        ],
    )  # fmt: skip
    def test_a_record_of_a_move_that_cannot_be_believed_is_named(
        self, files: FileRegistry, root: Path, make_model: Make, change: Any
    ) -> None:
        files.register("churn", artifact := make_model(), by="me")
        files.move("churn", {"champion": 1}, by="me")
        uri = self.changed(root, "moves/1.json", change)
        for use in (
            lambda: files.version("churn", 1),
            lambda: files.resolve("models:churn@champion"),
            lambda: files.register("churn", artifact, by="me"),
            lambda: files.delete("churn", 1, by="me"),
            lambda: files.history("churn"),
        ):
            with pytest.raises(DocumentInvalid) as failure:
                use()
            assert str(failure.value).startswith(uri)

    def test_a_log_with_a_gap_is_not_shown_as_the_whole(
        self, files: FileRegistry, root: Path, make_model: Make
    ) -> None:
        files.register("churn", make_model(), by="me")
        for alias in ("a", "b", "c"):
            files.move("churn", {alias: 1}, by="me")
        (root / MODEL / "moves/2.json").unlink()
        with pytest.raises(DocumentInvalid, match=r"moves/2\.json: is missing"):
            files.history("churn")
        assert files.aliases("churn") == {"a": 1, "b": 1, "c": 1}

    def test_what_is_no_record_is_left_alone(self, files: FileRegistry, root: Path, make_model: Make) -> None:
        files.register("churn", make_model(), by="me")
        for name in (".put-0123", "notes.txt", "02.json", "2.json.bak", "٣.json", "0.json", "9" * 30 + ".json"):
            (root / MODEL / "versions" / name).write_bytes(b"?")
        (root / "prod/_models/README").write_text("hello")
        assert [version.version for version in files.versions("churn")] == [1]
        assert files.register("churn", make_model(), by="me")[0].version == 2
        assert files.models() == ["churn"]

    def test_a_record_is_canonical_and_fits_its_schema(self, files: FileRegistry, root: Path, make_model: Make) -> None:
        import jsonschema

        from airflow_mlops.registry.records import RECORDS, SCHEMAS, record_schema

        files.register("churn", make_model(), by="me")
        files.move("churn", {"champion": 1, "challenger": None}, by="me")
        for name, path, kind in (("version", "versions/1.json", VersionRecord), ("move", "moves/1.json", MoveRecord)):
            data = (root / MODEL / path).read_bytes()
            assert kind.from_bytes(data).to_bytes() == data
            committed = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
            assert committed == record_schema(name), "run python -m airflow_mlops.registry.records"
            jsonschema.Draft202012Validator(committed).validate(json.loads(data))
        assert record_schema("index") == json.loads((SCHEMAS / "index.schema.json").read_text())
        assert set(RECORDS) == {"version", "move", "index"}
