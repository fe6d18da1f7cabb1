# SPDX-License-Identifier: Apache-2.0
"""The documents of an attempt: one spelling, strict reading, schemas that are committed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema
import pytest

from airflow_mlops.artifacts import Artifact, DocumentInvalid, Manifest, OutputsSeal, Place, Seal
from airflow_mlops.artifacts.manifest import DOCUMENTS, SCHEMAS, Document, document_schema

STEP = {
    "pipeline": "churn",
    "name": "route.fit",
    "kind": "train",
    "runtime": "docker",
    "image": "python:3.11",
    "command": ["python", "fit.py"],
    "env": {"C": "1.0"},
    "params": {"C": 1.0, "folds": [1, 2], "note": None},
    "inputs": {"train": {"type": "dataset", "path": None, "uri": "s3://b/t", "digest": "none", "metadata": {"n": 1}}},
    "outputs": {"model": {"type": "model", "path": "/mlops/outputs/model/model.skops"}},
    "source": "sha256:" + "0" * 64,
}
RUN = {
    "id": "manual__1",
    "instance": "prod",
    "generation": 1,
    "try": 2,
    "attempt": "0a1b2c3d4e5f",
    "starter": "0198",
}


def seal() -> Seal:
    return Seal.model_validate({"version": 1, "step": STEP, "run": RUN})


def manifest(place: Place, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "attempt": "0a1b2c3d4e5f",
        "try_number": 2,
        "seal": seal(),
        "kind": "train",
        "artifacts": {"model": Artifact("model", "model", "s3://b/m", "sha256:" + "1" * 64, 5)},
        "parameters": {"rows": 42, "names": ["a"]},
        "metrics": {"metrics": {"auc": 0.9, "n": 3}},
        "runtime": {"image_id": "sha256:2"},
        "timings": {"hash_seconds": 0.1},
    }
    return Manifest.of(place, **{**values, **changes})


def documents() -> list[Document]:
    place = Place("prod", "churn", "manual__1", "route.fit", "-", 1)
    files = [{"path": "a/b", "size": 3, "sha256": "0" * 64}]
    return [seal(), OutputsSeal.model_validate({"version": 1, "outputs": {"model": files}}), manifest(place)]


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.title)
def test_what_is_written_is_read_again(document: Document) -> None:
    data = document.to_bytes()
    again = type(document).from_bytes(data)
    assert again == document
    assert again.to_bytes() == data
    assert again.sha256 == document.sha256
    assert data.endswith(b"\n")


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.title)
def test_a_document_fits_its_schema(document: Document) -> None:
    name = next(name for name, kind in DOCUMENTS.items() if kind is type(document))
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(document.to_bytes()))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_committed_schema_is_current(name: str) -> None:
    """Rewrite with ``python -m airflow_mlops.artifacts.manifest``."""
    assert json.loads((SCHEMAS / f"{name}.schema.json").read_text()) == document_schema(name)


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.title)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": 2}, "version 2.*update airflow-provider-mlops"),
        ({"version": 0}, "with a version"),
        ({"version": "1"}, "with a version"),
        ({"version": True}, "with a version"),
        ({"version": None}, "with a version"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_unknown_versions_and_keys_are_refused(document: Document, change: dict[str, Any], word: str) -> None:
    data = json.dumps({**json.loads(document.to_bytes()), **change}).encode()
    with pytest.raises(DocumentInvalid, match=word):
        type(document).from_bytes(data)


@pytest.mark.parametrize("kind", DOCUMENTS.values())
@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b'{"version": 1, "version": 1}', b"NaN"])
def test_what_is_no_document_is_refused(kind: type[Document], data: bytes) -> None:
    with pytest.raises(DocumentInvalid, match=kind.title.replace(".", r"\.")):
        kind.from_bytes(data)


def test_a_document_over_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = seal().to_bytes()
    monkeypatch.setattr(Seal, "limit", len(data) - 1)
    with pytest.raises(DocumentInvalid, match="at most"):
        Seal.from_bytes(data)
    with pytest.raises(DocumentInvalid, match="at most"):
        seal().to_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation", 0),
        ("generation", "1"),
        ("try", 1.5),
        ("seal", "abc"),
        ("metrics", {"m": {"auc": "0.9"}}),
        ("metrics", {"m": {"auc": True}}),
    ],
)
def test_a_field_of_another_type_is_refused_without_its_value(place: Place, field: str, value: Any) -> None:
    data = json.dumps({**json.loads(manifest(place).to_bytes()), field: value}).encode()
    with pytest.raises(DocumentInvalid, match=field):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\ud800"])
def test_what_json_cannot_hold_is_not_written(place: Place, value: Any) -> None:
    with pytest.raises(DocumentInvalid):
        manifest(place, parameters={"x": value}).to_bytes()


def test_a_manifest_keeps_the_original_ids(place: Place) -> None:
    document = json.loads(manifest(place).to_bytes())
    assert document["run"] == "scheduled__2026-01-01T00:00:00+00:00"
    assert document["seal"] == seal().sha256
    assert manifest(place).is_of(place)


@pytest.mark.parametrize("field", ["instance", "pipeline", "run", "step", "iteration"])
def test_a_manifest_is_of_one_place(place: Place, field: str) -> None:
    changed: dict[str, Any] = {field: "another"}
    assert not manifest(place).is_of(dataclasses.replace(place, **changed))
    assert not manifest(place).is_of(dataclasses.replace(place, generation=2))


def test_a_manifest_with_a_field_of_another_type_is_not_made(place: Place) -> None:
    with pytest.raises(DocumentInvalid, match="cannot be made"):
        manifest(place, timings={"x": "soon"})
