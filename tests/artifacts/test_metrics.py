# SPDX-License-Identifier: Apache-2.0
"""Metrics are finite numbers and a few documented shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlops.artifacts import parse_metrics
from airflow_mlops.artifacts.metrics import MAX_METRICS, MAX_SCALARS

SHAPES = [
    {"type": "curve", "x": [0, 0.5, 1], "y": [0, 1, 1]},
    {"type": "curve", "x": [], "y": [], "x_label": "recall", "y_label": "precision", "title": "PR"},
    {"type": "matrix", "values": [[50, 2], [3, 45]], "labels": ["benign", "malignant"]},
    {"type": "matrix", "values": [[1.5]]},
    {"type": "table", "columns": ["class", "f1", "kept"], "rows": [["a", 0.9, True], [None, 1, False]]},
    {"type": "text", "text": "fine", "title": "Verdict"},
]


def parse(value: Any, *keys: str) -> dict[str, float]:
    return parse_metrics(json.dumps(value).encode(), keys)


def test_the_numbers_come_back() -> None:
    assert parse({"accuracy": 0.93, "n": 100}, "accuracy") == {"accuracy": 0.93, "n": 100}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["type"])
def test_documented_shapes_are_taken(shape: dict[str, Any]) -> None:
    assert parse({"plot": shape, "auc": 1.0}) == {"auc": 1.0}


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "0.93",
        [0.93],
        {},
        {"value": 1},
        {"type": "pie"},
        {"type": ["curve"]},
        {"type": "curve", "x": [1], "y": [1, 2]},
        {"type": "curve", "x": [1], "y": ["1"]},
        {"type": "curve", "x": [True], "y": [1]},
        {"type": "curve", "x": [1]},
        {"type": "curve", "x": [1], "y": [1], "z": [1]},
        {"type": "curve", "x": [1], "y": [1], "title": 1},
        {"type": "matrix", "values": [[1, 2], [3]]},
        {"type": "matrix", "values": [[1]], "labels": ["a", "b"]},
        {"type": "matrix", "values": [["1"]]},
        {"type": "table", "columns": ["a"], "rows": [[1, 2]]},
        {"type": "table", "columns": ["a"], "rows": [[[1]]]},
        {"type": "table", "columns": [1], "rows": []},
        {"type": "text", "text": 1},
    ],
)
def test_other_values_are_refused_by_key(value: Any) -> None:
    with pytest.raises(ValueError, match="odd-one"):
        parse({"odd-one": value})


@pytest.mark.parametrize("text", [b"[]", b"0.93", b"null", b"", b"accuracy: 0.9", b'{"a": NaN}', b'{"a": 1, "a": 2}'])
def test_what_is_no_object_of_finite_numbers_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="expected a JSON object|not JSON|NaN|twice"):
        parse_metrics(text)


def test_a_number_that_json_has_not_is_told_with_its_key() -> None:
    with pytest.raises(ValueError, match="holds NaN for 'auc', which is not a JSON number"):
        parse_metrics(b'{"accuracy": 1, "auc": NaN}')


def test_a_declared_key_must_be_there_as_a_number() -> None:
    with pytest.raises(ValueError, match=r"no number for auc; it has accuracy"):
        parse({"accuracy": 1, "roc": SHAPES[0]}, "accuracy", "auc")
    with pytest.raises(ValueError, match="no number for roc"):
        parse({"roc": SHAPES[0]}, "roc")


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 129, "ü" * 65])
def test_keys_are_short_and_printable(key: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        parse({key: 1})


def test_files_and_numbers_are_capped() -> None:
    assert len(parse({str(number): number for number in range(MAX_SCALARS)})) == MAX_SCALARS
    with pytest.raises(ValueError, match="at most 200"):
        parse({str(number): number for number in range(MAX_SCALARS + 1)})
    with pytest.raises(ValueError, match="at most 1048576"):
        parse_metrics(b" " * (MAX_METRICS + 1))
