# SPDX-License-Identifier: Apache-2.0
"""What is taken from a model in MLflow's format, and that nothing in it can stop a registration."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.registry import Facts, ModelRegistry
from airflow_mlops.registry.mlflow_format import LIMIT, read_mlmodel

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from tests.registry.conftest import Make

# As MLflow 3.17.2 writes it.
MLMODEL = """\
artifact_path: /tmp/mlruns/0/models/m-5f0c1/artifacts
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.skops
    predict_fn: predict
    python_version: 3.11.7
  sklearn:
    code: null
    pickled_model: model.skops
    serialization_format: skops
    sklearn_version: 1.7.2
is_signature_from_type_hint: false
mlflow_version: 3.17.2
model_id: m-5f0c1
model_size_bytes: 37466
model_uuid: m-5f0c1
prompts: null
run_id: 0af3
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "mean radius", "required": true}, {"type": "long", "name": "n", "required": false}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
type_hint_from_example: false
utc_time_created: '2026-11-25 11:44:35.123456'
"""
SIGNATURE = {
    "inputs": [
        {"type": "double", "name": "mean radius", "required": True},
        {"type": "long", "name": "n", "required": False},
    ],
    "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}],
}
FILES = {"MLmodel": MLMODEL.encode(), "model.skops": b"m", "input_example.json": b"{}"}


@pytest.fixture
def store(file_store: Store) -> Store:
    """One kind of store: what matters here is the file."""
    return file_store


def test_signature_and_example_are_taken_from_the_models_folder(registry: ModelRegistry, make_model: Make) -> None:
    version, _ = registry.register("churn", make_model(files=FILES), by="me")
    assert version.signature == SIGNATURE
    assert version.input_example == "input_example.json"
    assert version.remarks == []
    assert registry.version("churn", 1) == version


def test_what_is_said_by_whoever_registers_counts_more(registry: ModelRegistry, make_model: Make) -> None:
    facts = Facts(signature={"inputs": []}, input_example="other.json")
    version, _ = registry.register("churn", make_model(files=FILES), by="me", facts=facts)
    assert version.signature == {"inputs": []}
    assert version.input_example == "other.json"


def test_a_model_of_another_format_has_neither(registry: ModelRegistry, make_model: Make) -> None:
    for files in (None, {"model.skops": b"m"}, {"deeper/MLmodel": FILES["MLmodel"]}):
        version, _ = registry.register("churn", make_model(files=files), by="me")
        assert (version.signature, version.input_example, version.remarks) == (None, None, [])


@pytest.mark.parametrize(
    "data", [b"a: !!python/object/apply:os.system [id]", b"\xff", b"", b"[" * 100_000, b"x: 1\n" * 100_000]
)
def test_a_broken_file_is_left_out_with_a_remark_and_the_model_is_registered(
    registry: ModelRegistry, make_model: Make, data: bytes
) -> None:
    version, created = registry.register("churn", make_model(files={**FILES, "MLmodel": data}), by="me")
    assert created
    assert version.signature is None
    assert len(version.remarks) == 1
    assert "MLmodel" in version.remarks[0]
    assert registry.version("churn", 1) == version


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ({"signature": "text"}, "signature in MLmodel was left out: it is no mapping"),
        ({"signature": {"inputs": [1]}}, "its inputs are no text"),
        ({"signature": {"inputs": "{"}}, "the JSON of its inputs is not JSON"),
        ({"signature": {"inputs": '{"a": 1}'}}, "its inputs are no list of columns"),
        ({"signature": {"outputs": "[1]"}}, "its outputs are no list of columns"),
        ({"signature": {"inputs": "[" * 500 + "]" * 500}}, "nested deeper"),
        ({"signature": {"inputs": '[{"x": NaN}]'}}, "not a JSON number"),
        ({"signature": {"inputs": '[{"x": "' + "y" * 150_000 + '"}]'}}, "at most"),
        ({"saved_input_example_info": []}, "input example in MLmodel was left out: it has no artifact_path"),
        ({"saved_input_example_info": {"artifact_path": 3}}, "has no artifact_path"),
        ({"saved_input_example_info": {"artifact_path": "gone.json"}}, "'gone.json' is no file"),
        ({"saved_input_example_info": {"artifact_path": "../../other/secret"}}, "is no file"),
        ({"saved_input_example_info": {"artifact_path": "/etc/passwd"}}, "is no file"),
        ({"saved_input_example_info": {"artifact_path": ""}}, "is no file"),
    ],
)
def test_a_part_of_another_shape_is_left_out_and_the_other_one_is_taken(change: dict[str, Any], remark: str) -> None:
    good = {"signature": {"inputs": "[]"}, "saved_input_example_info": {"artifact_path": "input_example.json"}}
    found = read_mlmodel(json.dumps({**good, **change}).encode(), set(FILES))
    assert len(found.remarks) == 1
    assert remark in found.remarks[0]
    assert len(found.remarks[0]) <= 300
    assert (found.signature is None) == ("signature" in change)
    assert (found.input_example is None) == ("signature" not in change)


def test_a_document_that_would_expand_without_end_is_left_out_at_once() -> None:
    layers = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))
    started = time.perf_counter()
    found = read_mlmodel(f"a0: &a0 [x]\n{layers}\n".encode(), ())
    assert found.signature is None
    assert found.remarks
    assert time.perf_counter() - started < 5


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_no_bytes_are_a_failure(data: bytes) -> None:
    assert len(data) < LIMIT
    read_mlmodel(data, ())
