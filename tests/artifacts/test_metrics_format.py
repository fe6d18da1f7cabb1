# SPDX-License-Identifier: Apache-2.0
"""The documented format of metrics: its examples, its JSON Schema, and what comes out of scikit-learn and Kubeflow Pipelines."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.artifacts import DocumentInvalid, NotFound, Store, parse_metrics
from airflow_mlops.artifacts.curves import Extent, thinned
from airflow_mlops.artifacts.metrics import MAX_METRICS, SCHEMA, fetch_metrics, metrics_schema, read_metrics
from airflow_mlops.artifacts.shapes import Curve, Curves

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE / "metrics").glob("*.json"))
SCHEMA_OF_FILES = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def problem(document: Any) -> str:
    """What is wrong with a metrics file; nothing, if it is good."""
    try:
        parse_metrics(json.dumps(document).encode())
    except ValueError as error:
        return str(error)
    return ""


# The examples of the documentation


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_of_the_documentation_is_a_metrics_file(file: Path) -> None:
    document = json.loads(file.read_text())
    assert problem(document) == ""
    SCHEMA_OF_FILES.validate(document)


def test_every_shape_has_an_example() -> None:
    shapes = [shape for file in EXAMPLES for shape in read_metrics(file.read_bytes()).shapes.values()]
    assert {type(shape).__name__ for shape in shapes} == set(metrics_schema()["$defs"]) - {"Series"}


# Curves


def test_a_curve_has_one_line_or_several() -> None:
    one = {"type": "curve", "x": [0, 1], "y": [0, 1], "thresholds": [None, 0.5]}
    several = {"type": "curve", "series": [{"name": "a", "x": [0], "y": [1]}, {"name": "b", "x": [], "y": []}]}
    found = read_metrics(json.dumps({"one": one, "several": several}).encode()).shapes
    assert isinstance(found["one"], Curve) and isinstance(found["several"], Curves)
    assert [(name, line.x) for name, line in found["several"].lines()] == [("a", [0]), ("b", [])]
    assert [name for name, _ in found["one"].lines()] == [""]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"type": "curve", "x": [1], "y": [1, 2]}, "that has 1 in x, 2 in y; expected as many in each"),
        ({"type": "curve", "x": [1], "y": [1], "thresholds": []}, "that has 1 in x, 1 in y, 0 in thresholds"),
        ({"type": "curve", "x": [1, 2], "y": [1, "2"]}, "whose y[1] is '2'; expected a finite number"),
        ({"type": "curve", "x": [1]}, "that lacks y; expected x, y, thresholds, title, x_label, y_label"),
        ({"type": "curve", "x": [1], "y": [1], "thresholds": [True]}, "whose thresholds[0] is True; expected a finite"),
        ({"type": "curve", "x": [1], "y": [1], "series": []}, "that has the unknown key x; expected series, title"),
        ({"type": "curve", "series": {}}, "whose series is {}; expected a list"),
        ({"type": "curve", "series": [3]}, "whose series[0] is 3; expected an object"),
        ({"type": "curve", "series": [{"x": [], "y": []}]}, "whose series[0] lacks name; expected name, x, y, thres"),
        ({"type": "curve", "series": [{"name": "a", "x": [1], "y": []}]}, "whose series[0] has 1 in x, 0 in y"),
        ({"type": "curve", "x": [], "y": [], "a b": 1}, "that has the unknown key 'a b'; expected x, y"),
        ({"type": "matrix", "values": [[1], [1, 2]]}, "that has rows of 1 and of 2 numbers; expected as many"),
        (
            {"type": "matrix", "values": [[1]], "labels": ["{a}", "{b}"]},
            "that has 2 labels and 1 rows; expected a label for",
        ),
        ({"type": "table", "columns": ["a"], "rows": [[1], []]}, "that has 0 values in rows[1] and 1 columns"),
        ({"type": "text", "text": None}, "whose text is None; expected a text"),
    ],
)
def test_an_error_says_where_and_what_was_expected(shape: dict[str, Any], said: str) -> None:
    assert f"has a {shape['type']} for 'odd-one' {said}" in problem({"odd-one": shape})


# The JSON Schema

numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
cells = st.one_of(numbers, texts, st.booleans(), st.none())
junk = st.one_of(st.booleans(), cells, st.lists(cells, max_size=2), st.dictionaries(texts, cells, max_size=2))
keys = st.one_of(texts, texts, st.sampled_from(["", "a" * 128, "a" * 129, "é" * 64, "é" * 65]))


@st.composite
def some(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """A value of a kind, and now and then any other."""
    return draw(junk if draw(st.integers(0, 19)) == 7 else values)


@st.composite
def fields(draw: st.DrawFn, required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """An object with these keys; now and then one is missing, or there is one too many."""
    made: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {name: some(value) for name, value in required.items()},
            optional={name: some(value) for name, value in optional.items()},
        )
    )
    how = draw(st.integers(0, 19))
    if how == 7:
        del made[draw(st.sampled_from(sorted(made)))]
    return {**made, draw(texts): 1} if how == 11 else made


@st.composite
def shapes(draw: st.DrawFn) -> Any:
    """A shape whose parts have as many items each, most often."""

    def listed(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        odd = draw(st.integers(0, 29)) == 7
        return st.lists(some(items), min_size=count + odd, max_size=count + odd)

    count = draw(st.integers(0, 2))
    line = {"x": listed(numbers), "y": listed(numbers)}
    more = {"thresholds": listed(st.one_of(numbers, st.none()))}
    axes = {"title": texts, "x_label": texts, "y_label": texts}
    values, labels = listed(listed(numbers)), st.one_of(st.none(), listed(texts))
    series = st.lists(some(fields({"name": texts, **line}, more)), max_size=2)
    table = {"columns": listed(texts), "rows": st.lists(some(listed(cells)), max_size=2)}
    made = [
        fields({"type": st.just("curve"), **line}, {**more, **axes}),
        fields({"type": st.just("curve"), "series": series}, axes),
        fields({"type": st.just("matrix"), "values": values}, {"labels": labels, **axes}),
        fields({"type": st.just("table"), **table}, {"title": texts}),
        fields({"type": st.just("text"), "text": texts}, {"title": texts}),
    ]
    return draw(draw(st.sampled_from(made)))


def is_beyond_schemas(said: str, document: dict[str, Any]) -> bool:
    """Whether an error is about what ``docs/metrics.md`` lists as said by no JSON Schema."""
    if "printable characters, up to 128 bytes" in said:
        return any(0 < len(key) <= 128 and (len(key.encode()) > 128 or not key.isprintable()) for key in document)
    return "expected as many" in said or "expected a label for each row" in said


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.dictionaries(keys, st.one_of(shapes(), shapes(), some(numbers)), min_size=1, max_size=2))
def test_schema_and_parser_agree_on_all_that_a_schema_can_say(document: dict[str, Any]) -> None:
    said = problem(document)
    if SCHEMA_OF_FILES.is_valid(document):
        assert said == "" or is_beyond_schemas(said, document), said
    else:
        assert said != ""


def test_the_committed_schema_is_current() -> None:
    """Rewrite with ``python -m airflow_mlops.artifacts.metrics``."""
    assert json.loads(SCHEMA.read_text()) == metrics_schema()
    jsonschema.Draft202012Validator.check_schema(metrics_schema())


# Reading from a store


def test_a_file_is_read_only_if_it_is_what_was_committed(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    data = EXAMPLES[0].read_bytes()
    store.put_if_absent("a/metrics", data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert fetch_metrics(store, "a/metrics", digest).shapes
    for other in ("sha256:" + "0" * 64, "etag:1", "none"):
        with pytest.raises(DocumentInvalid, match="it was changed since"):
            fetch_metrics(store, "a/metrics", other)
    with pytest.raises(NotFound):
        fetch_metrics(store, "b/metrics", digest)


def test_what_is_too_large_or_no_metrics_file_is_refused(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    for name, data in (("large", b" " * (MAX_METRICS + 1)), ("list", b"[]")):
        store.put_if_absent(name, data)
        with pytest.raises(DocumentInvalid, match=f"{name} (is larger|is \\[\\]; expected)"):
            fetch_metrics(store, name, f"sha256:{hashlib.sha256(data).hexdigest()}")


# What becomes of lines


@settings(max_examples=200)
@given(st.lists(numbers, max_size=5), numbers)
def test_any_number_has_a_place_on_an_axis(values: list[float], value: float) -> None:
    extent = Extent.of(values)
    assert math.isfinite(extent.low) and math.isfinite(extent.high) and extent.low < extent.high
    assert all(0 <= extent.part(each) <= 1 for each in (*values, value))


def test_numbers_whose_difference_is_none_have_a_place_as_well() -> None:
    widest = Extent.of([-1.7e308, 1.7e308])
    assert [widest.part(value) for value in (-1.7e308, 0, 1.7e308)] == [0, 0.5, 1]
    assert widest.at(0.5) == 0
    assert Extent.of([0, 5e-324]).part(0) == 0.5
    assert Extent.of([3]).part(3) == 0.5


def test_a_line_that_is_thinned_keeps_its_ends_and_its_peaks() -> None:
    points = [(float(x), 0.0) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    kept = thinned(points, 500)
    assert len(kept) <= 500
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert points[4321] in kept
    assert kept == sorted(kept)
    assert thinned(points[:500], 500) == points[:500]


# Out of scikit-learn


@pytest.mark.slow
def test_the_program_of_the_documentation_writes_a_metrics_file(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    file = tmp_path / "metrics"
    environment = {**os.environ, "MLOPS_OUTPUT_METRICS": str(file)}
    done = subprocess.run(
        [sys.executable, HERE / "metrics/write.py"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = read_metrics(file.read_bytes())
    assert 0.9 < found.scalars["accuracy"] <= 1
    assert {key: len(shape.lines()) for key, shape in found.shapes.items() if isinstance(shape, (Curve, Curves))} == {
        "roc": 1,
        "precision_recall": 1,
        "learning": 2,
    }
    assert set(found.shapes) == {"roc", "precision_recall", "learning", "confusion", "by_class"}


# Out of Kubeflow Pipelines

ROC_READING = {"x": "falsePositiveRate", "y": "recall", "thresholds": "confidenceThreshold"}


def from_kfp(metadata: dict[str, Any]) -> dict[str, Any]:
    """``ClassificationMetrics.metadata`` as the table of ``docs/metrics.md`` maps it."""
    readings, confusion = metadata.get("confidenceMetrics"), metadata.get("confusionMatrix")
    made: dict[str, Any] = {}
    if readings is not None:
        made["roc"] = {"type": "curve"} | {
            ours: [reading[theirs] if math.isfinite(reading[theirs]) else None for reading in readings]
            for ours, theirs in ROC_READING.items()
        }
    if confusion is not None:
        labels = [category["displayName"] for category in confusion["annotationSpecs"]]
        made["confusion"] = {"type": "matrix", "labels": labels, "values": [row["row"] for row in confusion["rows"]]}
    return made


def to_kfp(metrics: dict[str, Any]) -> dict[str, Any]:
    roc, confusion = metrics["roc"], metrics["confusion"]
    return {
        "confidenceMetrics": [
            dict(zip(ROC_READING.values(), (x, y, math.inf if at is None else at), strict=True))
            for x, y, at in zip(roc["x"], roc["y"], roc["thresholds"], strict=True)
        ],
        "confusionMatrix": {
            "annotationSpecs": [{"displayName": label} for label in confusion["labels"]],
            "rows": [{"row": row} for row in confusion["values"]],
        },
    }


KFP_METADATA = {  # as log_roc_curve and log_confusion_matrix of kfp 2.17.3 write it, with scikit-learn's first threshold
    "confidenceMetrics": [
        {"confidenceThreshold": math.inf, "recall": 0.0, "falsePositiveRate": 0.0},
        {"confidenceThreshold": 0.5, "recall": 1.0, "falsePositiveRate": 0.5},
    ],
    "confusionMatrix": {
        "annotationSpecs": [{"displayName": "a"}, {"displayName": "b"}],
        "rows": [{"row": [1, 2]}, {"row": [3, 4]}],
    },
}


def test_what_kfp_logs_of_a_classifier_is_kept_without_loss() -> None:
    mapped = from_kfp(KFP_METADATA)
    assert problem(mapped) == ""
    assert to_kfp(mapped) == KFP_METADATA
