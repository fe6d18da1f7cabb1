# SPDX-License-Identifier: Apache-2.0
"""What every registry promises, whatever it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.artifacts import Store, digest_path
from airflow_mlops.registry import (
    AliasMoved,
    Facts,
    ModelRegistry,
    NameRefused,
    Origin,
    RegistrationRefused,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
)

if TYPE_CHECKING:
    from tests.registry.conftest import Make

ORIGIN = Origin(
    instance="prod",
    pipeline="churn",
    run="manual__1",
    step="route.fit",
    generation=1,
    try_=2,
    attempt="0a1b2c3d4e5f",
    manifest="s3://b/manifest.json",
    sha256="0" * 64,
)
FACTS = Facts(
    metrics={"auc": 0.9, "rows": 60},
    origin=ORIGIN,
    git_commit="0123abc",
    inputs={"train": "sha256:" + "1" * 64},
    source="sha256:" + "2" * 64,
    signature={"inputs": [{"name": "x", "type": "double"}]},
    description="The first one.\nIt is good.",
    tags={"team": "risk", "ünï": "日本"},
)
TREE = {"MLmodel.txt": b"1", "data/model.skops": b"2" * 1000, "ünïcode/with space+[x]*.bin": b"3", "empty": b""}


def fetched(store: Store, uri: str, target: Path) -> str:
    """Digest of what lies at a URI."""
    store.download(store.key(uri), target)
    return digest_path(target).digest


def test_a_model_is_a_version_with_all_that_is_known_of_it(registry: ModelRegistry, make_model: Make) -> None:
    artifact = make_model()
    version, created = registry.register("churn", artifact, by="dag churn", facts=FACTS)
    assert created
    assert (version.name, version.version, version.digest) == ("churn", 1, artifact.digest)
    assert (version.size, version.is_tree, version.file) == (artifact.size, False, "model.skops")
    assert version.registered_by == "dag churn"
    assert {name: getattr(version, name) for name in type(FACTS).model_fields} == dict(FACTS)
    assert registry.version("churn", 1) == version
    assert registry.resolve("models:churn/1") == version
    assert registry.versions("churn") == [version]
    assert registry.models() == ["churn"]


@pytest.mark.parametrize("files", [None, TREE], ids=["file", "folder"])
def test_its_files_are_a_copy_that_outlives_the_run(
    registry: ModelRegistry, store: Store, make_model: Make, tmp_path: Path, files: dict[str, bytes] | None
) -> None:
    artifact = make_model(files=files)
    version, _ = registry.register("churn", artifact, by="me")
    store.delete_tree(store.key(artifact.uri))
    assert fetched(store, version.uri, tmp_path / "got") == artifact.digest


def test_a_version_is_an_artifact_that_steps_take(registry: ModelRegistry, make_model: Make) -> None:
    version, _ = registry.register("churn", made := make_model(), by="me")
    artifact = version.as_artifact("scorer")
    assert (artifact.name, artifact.type, artifact.digest, artifact.size) == ("scorer", "model", made.digest, made.size)
    assert (artifact.uri, artifact.file, artifact.is_tree) == (version.uri, "model.skops", False)
    assert artifact.metadata == {"model": "churn", "version": 1}


def test_the_same_content_twice_is_one_version(registry: ModelRegistry, make_model: Make) -> None:
    first, _ = registry.register("churn", make_model(b"same"), by="me", facts=FACTS)
    again, created = registry.register("churn", make_model(b"same"), by="another one", facts=Facts(description="other"))
    assert not created
    assert again == first
    assert registry.versions("churn") == [first]


def test_other_content_and_other_names_are_other_versions(registry: ModelRegistry, make_model: Make) -> None:
    names = ["churn", "churn", "Churn", "churn-2", "churn"]
    made = [registry.register(name, make_model(), by="me")[0] for name in names]
    assert [(found.name, found.version) for found in made] == [
        ("churn", 1), ("churn", 2), ("Churn", 1), ("churn-2", 1), ("churn", 3)
    ]  # fmt: skip
    assert [found.version for found in registry.versions("churn")] == [1, 2, 3]
    assert registry.models() == ["Churn", "churn", "churn-2"]


def test_a_registered_version_can_be_registered_under_another_name(
    registry: ModelRegistry, store: Store, make_model: Make, tmp_path: Path
) -> None:
    first, _ = registry.register("churn", make_model(), by="me")
    other, created = registry.register("churn-eu", first.as_artifact(), by="me")
    assert created
    assert registry.delete("churn", 1, by="me")
    assert fetched(store, other.uri, tmp_path / "got") == first.digest


def test_a_name_of_any_length_is_found_again(registry: ModelRegistry, make_model: Make) -> None:
    names = ["M" * 128, "M" * 127 + "m", "x" * 128]
    for name in names:
        registry.register(name, make_model(), by="me")
        assert registry.version(name, 1).name == name
    assert registry.models() == sorted(names)


def test_a_model_from_elsewhere_is_taken_from_this_machine(
    registry: ModelRegistry, store: Store, make_model: Make, tmp_path: Path
) -> None:
    local = tmp_path / "imported"
    local.mkdir()
    (local / "weights").write_bytes(b"w" * 100)
    found = digest_path(local)
    artifact = make_model(uri="s3://elsewhere/model", digest=found.digest, is_tree=True, file=None)
    version, _ = registry.register("churn", artifact, by="me", local=local)
    assert version.is_tree
    assert version.size == 100
    assert fetched(store, version.uri, tmp_path / "got") == found.digest
    with pytest.raises(RegistrationRefused, match=r"s3://elsewhere/model does not lie in the store .*local copy"):
        registry.register("other", artifact, by="me")
    with pytest.raises(RegistrationRefused, match=f"{tmp_path}/gone is not there"):
        registry.register("other", artifact, by="me", local=tmp_path / "gone")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "none"}, "digest: content"),
        ({"digest": "etag:abc"}, "digest: content"),
        ({"type": "dataset"}, "expected a model"),
        ({"digest": "sha256:" + "0" * 64}, "was changed since"),
        ({"digest": "sha256-tree:" + "0" * 64}, "was changed since"),
    ],
)
def test_what_is_no_model_or_another_one_is_refused_and_leaves_nothing(
    registry: ModelRegistry, make_model: Make, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegistrationRefused, match=message):
        registry.register("churn", make_model(**changes), by="me")
    assert registry.models() == []
    with pytest.raises(UnknownModel, match="no model 'churn'"):
        registry.versions("churn")


def test_facts_that_no_registry_can_keep_are_refused(registry: ModelRegistry, make_model: Make) -> None:
    with pytest.raises(RegistrationRefused, match="registered_by.*200"):
        registry.register("churn", make_model(), by="x" * 300)
    assert registry.models() == []


@pytest.mark.parametrize("name", ["x' or name!='", "a\n", "..", "a/b", ""])
def test_a_hostile_name_is_refused_everywhere(registry: ModelRegistry, make_model: Make, name: str) -> None:
    artifact = make_model()
    for use in (
        lambda: registry.register(name, artifact, by="me"),
        lambda: registry.version(name, 1),
        lambda: registry.versions(name),
        lambda: registry.aliases(name),
        lambda: registry.move(name, {"champion": 1}, by="me"),
        lambda: registry.delete(name, 1, by="me"),
        lambda: registry.history(name),
        lambda: registry.resolve(f"models:{name}@champion"),
    ):
        with pytest.raises(NameRefused):
            use()


def test_a_hostile_alias_or_number_is_refused_everywhere(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    number: Any = "1"
    for use in (
        lambda: registry.move("churn", {"../x": 1}, by="me"),
        lambda: registry.move("churn", {"v2": None}, by="me"),
        lambda: registry.move("churn", {"a": 1}, by="me", expected={"B": None}),
        lambda: registry.move("churn", {"a": number}, by="me"),
        lambda: registry.move("churn", {"a": 0}, by="me"),
        lambda: registry.move("churn", {"a": 1}, by="me", expected={"a": number}),
        lambda: registry.version("churn", number),
        lambda: registry.delete("churn", number, by="me"),
    ):
        with pytest.raises(NameRefused):
            use()


def test_an_unknown_model_is_named_with_the_nearest_one(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    for use in (
        lambda: registry.version("chrun", 1),
        lambda: registry.versions("chrun"),
        lambda: registry.aliases("chrun"),
        lambda: registry.move("chrun", {"champion": 1}, by="me"),
        lambda: registry.move("chrun", {"champion": None}, by="me"),
        lambda: registry.delete("chrun", 1, by="me"),
        lambda: registry.history("chrun"),
        lambda: registry.resolve("models:chrun@champion"),
    ):
        with pytest.raises(UnknownModel, match="did you mean 'churn'"):
            use()


def test_an_unknown_version_is_named_with_those_there_are(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    registry.register("churn", make_model(), by="me")
    registry.move("churn", {"champion": 1}, by="me")
    for use in (
        lambda: registry.version("churn", 3),
        lambda: registry.resolve("models:churn/3"),
        lambda: registry.move("churn", {"champion": 3}, by="me"),
        lambda: registry.delete("churn", 3, by="me"),
    ):
        with pytest.raises(UnknownVersion, match="churn has no version 3; it has 1, 2"):
            use()
    with pytest.raises(UnknownAlias, match="no alias 'challenger', it has champion"):
        registry.resolve("models:churn@challenger")


def test_an_alias_resolves_to_where_it_was_moved(registry: ModelRegistry, make_model: Make) -> None:
    first, second = (registry.register("churn", make_model(), by="me")[0] for _ in range(2))
    assert registry.aliases("churn") == {}
    registry.move("churn", {"champion": 1, "challenger": 2}, by="me")
    assert registry.resolve("models:churn@champion") == first
    assert registry.resolve("models:churn@challenger") == second
    registry.move("churn", {"champion": 2, "challenger": None}, by="me", why="better")
    assert registry.resolve("models:churn@champion") == second
    assert registry.aliases("churn") == {"champion": 2}


def test_a_move_that_changes_nothing_leaves_no_entry(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    assert registry.move("churn", {"champion": 1}, by="me") is not None
    assert registry.move("churn", {"champion": 1, "challenger": None}, by="me") is None
    assert registry.move("churn", {}, by="me") is None
    assert len(registry.history("churn")) == 1


def test_a_move_is_made_only_from_what_was_expected(registry: ModelRegistry, make_model: Make) -> None:
    for _ in range(3):
        registry.register("churn", make_model(), by="me")
    assert registry.move("churn", {"champion": 1}, by="ann", expected={"champion": None, "challenger": None})
    for expected in ({"champion": None}, {"champion": 2}, {"champion": 1, "challenger": 3}):
        with pytest.raises(AliasMoved, match="of churn .*was expected"):
            registry.move("churn", {"champion": 3, "previous": 1}, by="me", expected=expected)
        assert registry.aliases("churn") == {"champion": 1}
    assert registry.move("churn", {"champion": 3, "previous": 1}, by="me", expected={"champion": 1})
    assert registry.aliases("churn") == {"champion": 3, "previous": 1}


def test_a_move_is_made_for_all_aliases_or_none(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    with pytest.raises(UnknownVersion):
        registry.move("churn", {"challenger": 1, "champion": 2}, by="me")
    assert registry.aliases("churn") == {}


def test_the_log_says_who_did_what_and_why(registry: ModelRegistry, make_model: Make) -> None:
    for _ in range(2):
        registry.register("churn", make_model(), by="me")
    assert registry.history("churn") == []
    registry.move("churn", {"champion": 1}, by="ann", why="the first")
    registry.move("churn", {"champion": 2, "previous": 1}, by="bob", why="better:\nauc 0.9")
    registry.move("churn", {"previous": None}, by="ann")
    registry.delete("churn", 1, by="cleaner", why="old")
    log = registry.history("churn")
    assert [(move.number, move.by, move.why) for move in log] == [
        (1, "ann", "the first"), (2, "bob", "better:\nauc 0.9"), (3, "ann", ""), (4, "cleaner", "old")
    ]  # fmt: skip
    assert [move.changed for move in log] == [{"champion": 1}, {"champion": 2, "previous": 1}, {"previous": None}, {}]
    assert [move.aliases for move in log] == [
        {"champion": 1},
        {"champion": 2, "previous": 1},
        {"champion": 2},
        {"champion": 2},
    ]
    assert [move.deleted for move in log] == [None, None, None, 1]
    assert log[-1].all_deleted == [1]
    assert log == sorted(log, key=lambda move: move.at)


def test_a_version_that_an_alias_points_to_is_not_deleted(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    registry.move("churn", {"champion": 1, "a-b": 1}, by="me")
    with pytest.raises(VersionInUse, match="version 1 of churn is a-b, champion; move those aliases"):
        registry.delete("churn", 1, by="me")
    assert registry.version("churn", 1)


def test_a_deleted_version_is_gone_with_its_files_and_its_number_is_not_used_again(
    registry: ModelRegistry, store: Store, make_model: Make, tmp_path: Path
) -> None:
    made = [make_model(b"a", **{}), make_model(b"b")]
    first, second = (registry.register("churn", artifact, by="me")[0] for artifact in made)
    assert registry.delete("churn", 2, by="me", why="wrong data") is not None
    assert registry.delete("churn", 2, by="me") is None
    assert registry.versions("churn") == [first]
    assert not store.exists(store.key(second.uri))
    for use in (
        lambda: registry.version("churn", 2),
        lambda: registry.resolve("models:churn/2"),
        lambda: registry.move("churn", {"champion": 2}, by="me"),
    ):
        with pytest.raises(UnknownVersion, match="version 2 of churn was deleted"):
            use()
    again, created = registry.register("churn", made[1], by="me")
    assert (again.version, created) == (3, True)
    assert fetched(store, again.uri, tmp_path / "again") == made[1].digest
    assert fetched(store, first.uri, tmp_path / "first") == made[0].digest


def test_a_model_whose_versions_are_all_deleted_is_still_known(registry: ModelRegistry, make_model: Make) -> None:
    registry.register("churn", make_model(), by="me")
    registry.delete("churn", 1, by="me")
    assert registry.models() == ["churn"]
    assert registry.versions("churn") == []
    assert registry.aliases("churn") == {}
