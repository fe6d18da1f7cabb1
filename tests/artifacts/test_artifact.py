# SPDX-License-Identifier: Apache-2.0
"""An artifact that comes from elsewhere is checked before it is believed."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops.artifacts import Artifact, ReferenceRefused

GOOD: dict[str, Any] = {
    "name": "train",
    "type": "dataset",
    "uri": "s3://bucket/prefix/train/train.csv",
    "digest": "sha256:" + "0" * 64,
    "size": 10,
    "is_tree": True,
    "file": "train.csv",
    "metadata": {"rows": 3},
}


def test_it_goes_through_json_and_back() -> None:
    artifact = Artifact.from_json(GOOD)
    assert Artifact.from_json(artifact.to_json()) == artifact
    assert artifact.to_json() == GOOD


def test_what_is_not_known_is_left_out() -> None:
    document = Artifact("m", "model", "file:///x/m", "none").to_json()
    assert document == {"name": "m", "type": "model", "uri": "file:///x/m", "digest": "none"}
    assert Artifact.from_json(document).size is None


@pytest.mark.parametrize("digest", ["sha256-tree:" + "a" * 64, "etag:abc-1", 'etag:W/"x', "none"])
def test_the_kinds_of_digests_are_taken(digest: str) -> None:
    assert Artifact.from_json({**GOOD, "digest": digest}).digest == digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Train"),
        ("name", "../x"),
        ("name", ""),
        ("name", 1),
        ("type", "pickle"),
        ("type", None),
        ("uri", "/etc/passwd"),
        ("uri", "s3://bucket/../other"),
        ("uri", "s3://bucket/a\nb"),
        ("uri", "s3://" + "x" * 5000),
        ("uri", ""),
        ("digest", "sha256:" + "0" * 63),
        ("digest", "sha256:" + "0" * 64 + "\n"),
        ("digest", "md5:0"),
        ("digest", None),
        ("size", -1),
        ("size", 1.5),
        ("size", True),
        ("size", "1"),
        ("is_tree", 1),
        ("file", "a/b"),
        ("file", ".."),
        ("file", ""),
        ("file", "a\0"),
        ("metadata", []),
        ("metadata", {"x": float("nan")}),
        ("metadata", {"x": "y" * 100_000}),
        ("metadata", {"x": object()}),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ReferenceRefused, match=field):
        Artifact.from_json({**GOOD, field: value})


@pytest.mark.parametrize("document", [None, [], "s3://x", {}, {**GOOD, "extra": 1}, {"name": "train"}])
def test_what_is_no_artifact_is_refused(document: Any) -> None:
    with pytest.raises(ReferenceRefused, match="expected an object"):
        Artifact.from_json(document)
