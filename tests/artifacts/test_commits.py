# SPDX-License-Identifier: Apache-2.0
"""One attempt of a generation commits; a reference is believed only if the manifest says the same."""

from __future__ import annotations

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import (
    AlreadyCommitted,
    Artifact,
    Collected,
    ContentRefused,
    Manifest,
    NotFound,
    OutputInvalid,
    OutputsSeal,
    Place,
    ReferenceRefused,
    StepReference,
    Store,
    collect,
    commit,
    find_committed,
    read_committed,
    seal_outputs,
)
from airflow_mlops.spec.parts import Output
from tests.artifacts.test_manifest import manifest


def test_a_commit_is_read_by_its_reference(store: Store, place: Place) -> None:
    made = manifest(place)
    reference = commit(store, place, made)
    again = StepReference.from_json(json.loads(json.dumps(reference.to_json())))
    assert again == reference
    assert read_committed(store, again) == made
    assert reference.manifest == store.uri(place.manifest_key)
    assert reference.artifacts["model"].uri == "s3://b/m"
    assert reference.parameters == {"rows": 42, "names": ["a"]}
    assert reference.metrics == {"metrics": {"auc": 0.9, "n": 3}}


def test_before_a_commit_there_is_nothing(store: Store, place: Place) -> None:
    assert find_committed(store, place) is None
    reference = commit(store, place, manifest(place))
    assert find_committed(store, place) == (manifest(place), reference)


def test_the_second_attempt_loses_and_learns_who_won(store: Store, place: Place) -> None:
    commit(store, place, manifest(place, attempt="first"))
    with pytest.raises(AlreadyCommitted, match="attempt first has committed generation 1") as failure:
        commit(store, place, manifest(place, attempt="second"))
    assert failure.value.winner.attempt == "first"
    assert store.read(place.manifest_key, Manifest.limit) == manifest(place, attempt="first").to_bytes()


def test_an_attempt_that_commits_again_gets_what_it_committed(store: Store, place: Place) -> None:
    """As after a worker that died between the commit and the XCom."""
    first = commit(store, place, manifest(place, timings={"ended": 1.0}))
    assert commit(store, place, manifest(place, timings={"ended": 2.0})) == first


def test_another_generation_commits_for_itself(store: Store, place: Place) -> None:
    cleared = dataclasses.replace(place, generation=2)
    commit(store, place, manifest(place, attempt="first"))
    assert commit(store, cleared, manifest(cleared, attempt="second"))


def test_of_twenty_attempts_one_commits(store: Store, place: Place) -> None:
    together = threading.Barrier(20)

    def race(number: int) -> str:
        made = manifest(place, attempt=f"attempt-{number}")
        together.wait()
        try:
            commit(store, place, made)
        except AlreadyCommitted as lost:
            return lost.winner.attempt
        return "won " + made.attempt

    with ThreadPoolExecutor(20) as pool:
        ends = list(pool.map(race, range(20)))
    winners = {end.removeprefix("won ") for end in ends if end.startswith("won ")}
    assert len(winners) == 1
    assert {end for end in ends if not end.startswith("won ")} == winners


def test_a_manifest_is_not_committed_in_another_place(file_store: Store, place: Place) -> None:
    with pytest.raises(ReferenceRefused, match="cannot be committed for other"):
        commit(file_store, dataclasses.replace(place, step="other"), manifest(place))
    assert not file_store.exists(place.run_key)


def test_what_the_next_step_would_refuse_is_not_committed(file_store: Store, place: Place) -> None:
    for wrong in (
        {"artifacts": {"model": Artifact("model", "model", "no-uri", "none")}},
        {"parameters": {"x": "y" * 600_000}},
    ):
        with pytest.raises((ReferenceRefused, OutputInvalid)):
            commit(file_store, place, manifest(place, **wrong))
    assert find_committed(file_store, place) is None


def test_a_changed_manifest_is_refused(file_store: Store, place: Place) -> None:
    reference = commit(file_store, place, manifest(place))
    path = file_store.local_path(place.manifest_key)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(manifest(place, parameters={"rows": 43}).to_bytes())
    with pytest.raises(ReferenceRefused, match="it was changed since"):
        read_committed(file_store, reference)


def test_a_deleted_manifest_is_told_apart(store: Store, place: Place) -> None:
    reference = commit(store, place, manifest(place))
    store.delete_tree(place.generation_key)
    with pytest.raises(NotFound):
        read_committed(store, reference)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3://elsewhere/manifest.json", "{store}/../x", "{store}", ""])
def test_a_manifest_outside_of_the_store_is_not_read(file_store: Store, place: Place, uri: str) -> None:
    reference = dataclasses.replace(
        commit(file_store, place, manifest(place)), manifest=uri.format(store=file_store.url)
    )
    with pytest.raises(ReferenceRefused):
        read_committed(file_store, reference)


@pytest.mark.parametrize(
    "lie",
    [
        {"parameters": {"rows": 43, "names": ["a"]}},
        {"parameters": {"rows": 42}},
        {"parameters": {"rows": True, "names": ["a"]}},
        {"metrics": {"metrics": {"auc": 0.99, "n": 3}}},
        {"metrics": {}},
        {"artifacts": {"model": Artifact("model", "model", "s3://evil/m", "sha256:" + "1" * 64, 5)}},
        {"artifacts": {"other": Artifact("other", "model", "s3://b/m", "sha256:" + "1" * 64, 5)}},
    ],
    ids=str,
)
def test_a_reference_that_says_more_than_its_manifest_is_refused(
    file_store: Store, place: Place, lie: dict[str, Any]
) -> None:
    reference = dataclasses.replace(commit(file_store, place, manifest(place)), **lie)
    with pytest.raises(ReferenceRefused, match="claims"):
        read_committed(file_store, reference)


def test_a_number_that_a_database_wrote_in_another_way_is_the_same(file_store: Store, place: Place) -> None:
    """JSONB gives 1e16 back as an integer."""
    reference = commit(file_store, place, manifest(place, parameters={"x": [1e16]}, metrics={"m": {"n": 3.0}}))
    stored = dataclasses.replace(reference, parameters={"x": [10**16]}, metrics={"m": {"n": 3}})
    assert read_committed(file_store, stored).attempt == "0a1b2c3d4e5f"


@pytest.mark.parametrize(("held", "claimed"), [(1, True), (False, 0), ([1], [True]), ({"a": True}, {"a": 1.0})])
def test_a_boolean_is_no_number(file_store: Store, place: Place, held: Any, claimed: Any) -> None:
    reference = commit(file_store, place, manifest(place, parameters={"x": held}))
    with pytest.raises(ReferenceRefused, match="claims"):
        read_committed(file_store, dataclasses.replace(reference, parameters={"x": claimed}))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"manifest": 1},
        {"sha256": "x"},
        {"sha256": "0" * 63},
        {"artifacts": []},
        {"artifacts": {"model": {}}},
        {"parameters": "x"},
        {"parameters": {"x": float("nan")}},
        {"parameters": {"x": object()}},
        {"parameters": {"x": "y" * 600_000}},
        {"metrics": {"m": 1}},
        {"extra": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_reference_is_refused(file_store: Store, place: Place, change: dict[str, Any]) -> None:
    document = {**commit(file_store, place, manifest(place)).to_json(), **change}
    with pytest.raises(ReferenceRefused):
        StepReference.from_json(document)


@pytest.mark.parametrize("document", [None, "file:///x", [], {}, 1])
def test_another_xcom_is_no_reference(document: Any) -> None:
    with pytest.raises(ReferenceRefused, match="not the result of a step"):
        StepReference.from_json(document)


def test_a_manifest_of_another_place_is_not_taken_for_the_commit(file_store: Store, place: Place) -> None:
    file_store.put_if_absent(place.manifest_key, manifest(dataclasses.replace(place, step="other")).to_bytes())
    with pytest.raises(ReferenceRefused, match="is the manifest of other"):
        find_committed(file_store, place)


def test_outputs_are_sealed_with_every_file(store: Store, place: Place, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part-0").write_bytes(b"abc")
    collected = collect(tmp_path, {"data": Output.model_validate("dataset")})
    seal_outputs(store, place.attempt_key("a"), collected)
    sealed = OutputsSeal.from_bytes(store.read(place.outputs_json_key("a"), OutputsSeal.limit))
    assert [(file.path, file.size) for file in sealed.outputs["data"]] == [("part-0", 3)]


def test_sealing_again_changes_nothing_and_other_files_are_refused(
    file_store: Store, place: Place, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(b"abc")
    declared = {"data": Output.model_validate("dataset")}
    for _ in range(2):
        seal_outputs(file_store, place.attempt_key("a"), collect(tmp_path, declared))
    (tmp_path / "data").write_bytes(b"xyz")
    with pytest.raises(ContentRefused, match="no longer those"):
        seal_outputs(file_store, place.attempt_key("a"), collect(tmp_path, declared))
    seal_outputs(file_store, place.attempt_key("b"), Collected())
