# SPDX-License-Identifier: Apache-2.0
"""Requests of the protocol become arrays or errors, and nothing in between."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.serving.server.errors import ModelFailed, Refused, RequestInvalid
from airflow_mlops.serving.server.protocol import (
    DTYPES,
    MAX_PARTS,
    InferRequest,
    datatype_of,
    parse_request,
    write_answer,
)

RANGES = {name: (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) for name, kind in DTYPES.items() if "INT" in name}
WIDTHS = {"FP16": 16, "FP32": 32, "FP64": 64}


def one(data: Any, datatype: str = "FP64", shape: Any = None) -> bytes:
    """A request of one tensor."""
    tensor = {"name": "x", "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data}
    return orjson.dumps({"inputs": [tensor]})


def parsed(data: Any, datatype: str = "FP64", shape: Any = None) -> np.ndarray[Any, Any]:
    return parse_request(one(data, datatype, shape)).inputs["x"]


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    """A tensor that is well formed."""
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    if datatype in RANGES:
        low, high = RANGES[datatype]
        element: st.SearchStrategy[Any] = st.integers(low, high)
    elif datatype in WIDTHS:
        element = st.floats(allow_nan=False, allow_infinity=False, width=WIDTHS[datatype])
    else:
        element = st.booleans() if datatype == "BOOL" else st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    count = math.prod(shape)
    return datatype, shape, draw(st.lists(element, min_size=count, max_size=count))


def nested(flat: list[Any], shape: list[int]) -> list[Any]:
    """The same elements as lists within lists."""
    for length in shape[:0:-1]:
        flat = [flat[at : at + length] for at in range(0, len(flat), length)]
    return flat


@given(tensors())
def test_a_tensor_is_read_as_it_was_written_flat_or_nested(tensor: tuple[str, list[int], list[Any]]) -> None:
    datatype, shape, data = tensor
    for spelling in (data, nested(data, shape)):
        array = parsed(spelling, datatype, shape)
        assert (array.dtype, array.shape) == (np.dtype(DTYPES[datatype]), tuple(shape))
        assert array.reshape(-1).tolist() == data


@given(tensors())
def test_an_answer_can_be_read_as_a_request(tensor: tuple[str, list[int], list[Any]]) -> None:
    datatype, shape, data = tensor
    array = parsed(data, datatype, shape)
    answer = orjson.loads(write_answer("m", "1", "id", {"x": array}))
    assert answer["outputs"][0]["datatype"] == datatype
    again = parse_request(orjson.dumps({"inputs": answer["outputs"]})).inputs["x"]
    assert np.array_equal(again, array)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.binary(max_size=200) | JSON.map(lambda value: repr(value).replace("'", '"').encode("utf-8", "replace")))
def test_no_body_does_anything_but_become_a_request_or_be_refused(body: bytes) -> None:
    try:
        assert isinstance(parse_request(body), InferRequest)
    except RequestInvalid as error:
        assert len(str(error)) < 1000


@given(
    st.fixed_dictionaries(
        {
            "name": JSON | st.just("x"),
            "shape": JSON | st.just([1]),
            "datatype": JSON | st.sampled_from(sorted(DTYPES)),
            "data": JSON,
        }
    )
)
def test_no_tensor_does_anything_but_become_an_array_or_be_refused(tensor: dict[str, Any]) -> None:
    try:
        body = orjson.dumps({"inputs": [tensor]})
    except orjson.JSONEncodeError:
        return  # integers and surrogates that JSON of this library does not write
    try:
        request = parse_request(body)
    except RequestInvalid:
        return
    assert list(request.inputs) == [tensor["name"]]
    assert request.inputs[tensor["name"]].shape == tuple(tensor["shape"])


@pytest.mark.parametrize("datatype, data", [
    ("FP64", ["1"]), ("FP64", [True]), ("FP32", [{}]), ("INT64", [1.0]), ("INT64", [True]), ("INT8", ["1"]), ("INT8", [None]), ("BOOL", [1]),
    ("BOOL", ["true"]), ("BYTES", [1]), ("BYTES", [None]), ("FP64", [[1.0, [2.0]]]), ("FP64", [1.0, [2.0]]),
])  # fmt: skip
def test_no_value_is_converted_to_another_kind(datatype: str, data: list[Any]) -> None:
    with pytest.raises(RequestInvalid, match="data holds"):
        parsed(data, datatype)


@pytest.mark.parametrize("datatype, value", [
    ("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT16", 32768), ("INT32", 1 << 31), ("UINT32", 1 << 32), ("INT64", 1 << 63), ("UINT64", -1),
    ("FP16", 70000), ("FP32", 1e39),
])  # fmt: skip
def test_a_number_that_does_not_fit_is_refused(datatype: str, value: float) -> None:
    with pytest.raises(RequestInvalid, match=rf"does not fit into {datatype}"):
        parsed([value], datatype)


def test_an_integer_beyond_64_bits_is_refused() -> None:
    for datatype in ("INT64", "UINT64"):
        with pytest.raises(RequestInvalid, match="beyond 64 bits"):
            parse_request(one([1], datatype).replace(b'"data":[1]', b'"data":[18446744073709551616]'))


def test_null_is_nan_among_floats_both_ways() -> None:
    array = parsed([1.5, None], "FP32")
    assert math.isnan(array[1])
    answer = write_answer("m", "1", None, {"x": np.array([1.5, math.nan, math.inf])})
    assert orjson.loads(answer)["outputs"][0]["data"] == [1.5, None, None]


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"1e999", b"nan"])
def test_what_is_no_number_of_json_is_refused(text: bytes) -> None:
    with pytest.raises(RequestInvalid, match="not JSON"):
        parse_request(one([1]).replace(b'"data":[1]', b'"data":[' + text + b"]"))


@pytest.mark.parametrize("shape", [[10**12], [10**6, 10**6], [2**63 - 1] * 8, [2], [1, 2], [3, 1]])
def test_a_shape_is_compared_with_the_data_before_anything_is_made(shape: list[int]) -> None:
    with pytest.raises(RequestInvalid, match=r"data holds 1 elements; expected"):
        parsed([1.0], "FP64", shape)


@pytest.mark.parametrize("shape", [[], [0], [-1], [1.0], [True], "1", None, {"a": 1}, [1] * 9, [2**64]])
def test_a_shape_is_a_list_of_whole_numbers(shape: Any) -> None:
    with pytest.raises(RequestInvalid, match="shape"):
        parse_request(orjson.dumps({"inputs": [{"name": "x", "shape": None, "datatype": "FP64", "data": [1]}]}).replace(
            b'"shape":null', b'"shape":' + (b"[18446744073709551616]" if shape == [2**64] else orjson.dumps(shape))))  # fmt: skip


@pytest.mark.parametrize(
    "data", [[[1.0, 2.0], [3.0]], [[1.0], [2.0]], [[1.0, 2.0]], [[1.0, 2.0], 3.0], [[[1.0], [2.0]], [[3.0], [4.0]]]]
)
def test_lists_within_lists_have_the_shape_that_is_declared(data: list[Any]) -> None:
    with pytest.raises(RequestInvalid, match="data holds"):
        parsed(data, "FP64", [2, 2])


@pytest.mark.parametrize("document, message", [
    ([], "the body is a list of 0; expected an object"),
    ({}, "the body lacks inputs"),
    ({"inputs": []}, "inputs is a list of 0"),
    ({"inputs": {}}, "inputs is an object"),
    ({"inputs": [1]}, r"inputs\[0\] is a whole number"),
    ({"inputs": [{"name": "x"}]}, r"inputs\[0\] lacks data, datatype, shape"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP8", "data": [1]}]}, r"datatype is 'FP8'; expected one of BOOL"),
    ({"inputs": [{"name": "", "shape": [1], "datatype": "FP64", "data": [1]}]}, "name is text"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": "1"}]}, "data is text; expected a list"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1], "dtype": 1}]}, "unknown keys 'dtype'"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}] * 2}, "each name once"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1], "parameters": {"binary_data_size": 8}}]}, "binary form"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}], "id": 1}, "id is a whole number"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}], "parameters": []}, "parameters is a list"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}], "outputs": [{}]}, r"outputs\[0\] lacks name"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}], "outputs": 1}, "outputs is a whole number"),
])  # fmt: skip
def test_a_message_says_what_is_wrong(document: Any, message: str) -> None:
    with pytest.raises(RequestInvalid, match=message):
        parse_request(orjson.dumps(document))


def test_json_nested_100000_levels_deep_is_refused() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(RequestInvalid, match="not JSON that can be read"):
            parse_request(opening * 100_000 + b"1" + closing * 100_000)


@pytest.mark.parametrize("part", [b"[]", b"{}", b"[0]"])
def test_millions_of_empty_parts_are_refused_before_they_are_made(part: bytes) -> None:
    body = b'{"inputs":[' + b",".join([part] * MAX_PARTS) + b"]}"
    with pytest.raises(RequestInvalid, match="send the data of a tensor as one flat list"):
        parse_request(body)
    rows = [[1.0]] * (MAX_PARTS - 10)
    assert parsed(rows, "FP64", [len(rows), 1]).shape == (len(rows), 1)


def test_text_of_an_answer_is_text_whatever_numpy_makes_of_it() -> None:
    arrays = {"a": np.array(["x", "yy"]), "b": np.array([b"x", b"\xff"]), "c": np.array(["x", 1], dtype=object)}
    outputs = orjson.loads(write_answer("m", "1", None, arrays))["outputs"]
    assert [one["data"] for one in outputs] == [["x", "yy"], ["x", "�"], ["x", "1"]]
    assert {one["datatype"] for one in outputs} == {"BYTES"}


def test_arrays_in_another_order_are_written_in_rows() -> None:
    array = np.array([[1, 2, 3], [4, 5, 6]], dtype=">i4").T
    (output,) = orjson.loads(write_answer("m", "1", None, {"x": array}))["outputs"]
    assert output == {"name": "x", "shape": [3, 2], "datatype": "INT32", "data": [1, 4, 2, 5, 3, 6]}


def test_what_the_protocol_does_not_have_is_the_models_fault() -> None:
    assert datatype_of(np.dtype("complex128")) is None
    with pytest.raises(ModelFailed, match="complex128") as caught:
        write_answer("m", "1", None, {"x": np.zeros(1, "complex128")})
    assert isinstance(caught.value, Refused) and caught.value.status == 500
