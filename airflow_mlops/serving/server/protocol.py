# SPDX-License-Identifier: Apache-2.0
"""
The Open Inference Protocol V2 in JSON: tensors, and what requests and answers look like.

A request is hostile until it has been read here. What it declares is compared with what it holds before any array is made, so that a shape of 10^12
elements costs as much as one of 10; and no value is converted to another kind: text is no number, and 1.5 is no integer. JSON has no NaN: ``null``
among floats is NaN, and NaN and infinities are ``null`` in answers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from airflow_mlops.serving.server.errors import ModelFailed, RequestInvalid
from airflow_mlops.spec.model_names import shown

DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""NumPy's types of the protocol's. ``BYTES`` is text: objects of type ``str``."""

NUMBERS = tuple(name for name in DTYPES if name != "BYTES")

MAX_RANK = 8
MAX_TENSORS = 4096
"""Inputs of a request: there are models with a thousand columns."""
MAX_PARTS = 200_000
"""Lists and objects of a request. Millions of empty ones fit into a body, and Python's garbage collector would look at them for seconds."""
MAX_NAME = 512
"""Characters of the name of a tensor."""

_NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}
_REQUEST = frozenset({"id", "parameters", "inputs", "outputs"})
_INPUT = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT = frozenset({"name", "parameters"})
_SHOWN = 5

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """
    A tensor that a model takes or gives.

    :param datatypes: the protocol's names of what it may be; the first one is what the metadata say
    :param shape: -1 for a dimension of any length; ``None`` for any shape
    :param columns: names of the elements of the last dimension, if they have some
    :param optional: a request may do without it
    """

    name: str
    datatypes: tuple[str, ...]
    shape: tuple[int, ...] | None
    columns: tuple[str, ...] = ()
    optional: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the metadata of a model have it."""
        found: dict[str, Any] = {"name": self.name, "datatype": self.datatypes[0], "shape": list(self.shape or (-1,))}
        if self.columns:
            found["parameters"] = {"columns": list(self.columns)}
        return found

    def check(self, array: Array, datatype: str) -> None:
        """
        Compare a tensor of a request with what is expected.

        :raises RequestInvalid: if it does not fit
        """
        if datatype not in self.datatypes:
            raise RequestInvalid(
                f"the input {shown(self.name)} is of datatype {datatype}; expected {' or '.join(self.datatypes)}"
            )
        if self.shape is None:
            return
        fits = len(self.shape) == array.ndim and all(
            want in (-1, have) for want, have in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            raise RequestInvalid(
                f"the input {shown(self.name)} has the shape {list(array.shape)}; expected {list(self.shape)}, where -1 is any length"
            )


@dataclass(frozen=True, slots=True)
class InferRequest:
    """
    A request that is well formed; whether it fits the model is another question.

    :param id: the client's name for it
    :param inputs: arrays by name
    :param datatypes: the protocol's names of their types, by name
    :param outputs: names of what is asked for; ``None`` for everything
    """

    id: str | None
    inputs: Mapping[str, Array]
    datatypes: Mapping[str, str]
    outputs: tuple[str, ...] | None


def parse_request(body: bytes) -> InferRequest:
    """
    Read the body of an inference request.

    :raises RequestInvalid: saying what is wrong with it
    """
    if body.count(b"[") + body.count(b"{") > MAX_PARTS:
        raise RequestInvalid(
            f"the body has more than {MAX_PARTS} lists and objects; send the data of a tensor as one flat list"
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestInvalid(f"the body is not JSON that can be read: {error}") from None
    _object("the body", document, _REQUEST, {"inputs"})
    identity = document.get("id")
    if identity is not None and (not isinstance(identity, str) or len(identity) > MAX_NAME):
        raise RequestInvalid(f"id is {_kind(identity)}; expected text of up to {MAX_NAME} characters")
    inputs = document["inputs"]
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= MAX_TENSORS:
        raise RequestInvalid(f"inputs is {_kind(inputs)}; expected a list of 1 to {MAX_TENSORS} tensors")
    arrays: dict[str, Array] = {}
    datatypes: dict[str, str] = {}
    for number, one in enumerate(inputs):
        where = f"inputs[{number}]"
        _object(where, one, _INPUT, {"name", "shape", "datatype", "data"})
        name = _name(where, one["name"], arrays)
        datatypes[name] = _datatype(where, one["datatype"])
        arrays[name] = _array(where, one["data"], datatypes[name], _shape(where, one["shape"]))
    return InferRequest(identity, arrays, datatypes, _outputs(document.get("outputs")))


def _object(where: str, value: Any, known: Collection[str], required: Collection[str]) -> None:
    if not isinstance(value, dict):
        raise RequestInvalid(f"{where} is {_kind(value)}; expected an object")
    unknown = [key for key in value if key not in known]
    if unknown:
        listing = ", ".join(shown(key) for key in unknown[:_SHOWN])
        raise RequestInvalid(f"{where} has the unknown keys {listing}; expected {', '.join(sorted(known))}")
    missing = sorted(set(required) - value.keys())
    if missing:
        raise RequestInvalid(f"{where} lacks {', '.join(missing)}")
    parameters = value.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestInvalid(f"{where}.parameters is {_kind(parameters)}; expected an object")
    if parameters and "binary_data_size" in parameters:
        raise RequestInvalid(f"{where} has its data in binary form, which this server does not take; send data as JSON")


def _name(where: str, name: Any, earlier: Collection[str]) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise RequestInvalid(f"{where}.name is {_kind(name)}; expected text of 1 to {MAX_NAME} characters")
    if name in earlier:
        raise RequestInvalid(f"{where}.name is {shown(name)}, which an earlier one has; expected each name once")
    return name


def _datatype(where: str, value: Any) -> str:
    if not isinstance(value, str) or value not in DTYPES:
        raise RequestInvalid(
            f"{where}.datatype is {shown(value) if isinstance(value, str) else _kind(value)}; expected one of {', '.join(DTYPES)}"
        )
    return value


def _shape(where: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_RANK:
        raise RequestInvalid(f"{where}.shape is {_kind(value)}; expected a list of 1 to {MAX_RANK} whole numbers")
    if not all(type(length) is int and length > 0 for length in value):
        raise RequestInvalid(f"{where}.shape holds something else than whole numbers from 1")
    return tuple(value)


def _outputs(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_TENSORS:
        raise RequestInvalid(f"outputs is {_kind(value)}; expected a list of up to {MAX_TENSORS} objects")
    names: list[str] = []
    for number, one in enumerate(value):
        _object(f"outputs[{number}]", one, _OUTPUT, {"name"})
        names.append(_name(f"outputs[{number}]", one["name"], names))
    return tuple(names) or None


def _array(where: str, data: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    """The array of a tensor, whose data are a flat list or lists within lists as the shape says."""
    if not isinstance(data, list):
        raise RequestInvalid(f"{where}.data is {_kind(data)}; expected a list")
    if data and isinstance(data[0], list):
        data = _flat(where, data, shape)
    count = math.prod(shape)
    if len(data) != count:
        raise RequestInvalid(
            f"{where}.data holds {len(data)} elements; expected {shown(count)}, as many as the shape says"
        )
    _check_kinds(where, data, datatype)
    try:
        # What does not fit into a small float becomes infinite, which is looked for below.
        with np.errstate(over="ignore"):
            array: Array = np.array(data, dtype=DTYPES[datatype])
    except OverflowError:
        raise RequestInvalid(f"{where}.data holds a number that does not fit into {datatype}") from None
    if datatype in ("FP16", "FP32") and np.isinf(array).any():
        raise RequestInvalid(f"{where}.data holds a number that does not fit into {datatype}")
    return array.reshape(shape)


def _flat(where: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The elements of lists within lists, level by level: nesting deeper than the shape is left for the check of kinds."""
    fits = len(data) == shape[0]
    for length in shape[1:]:
        fits = fits and all(isinstance(one, list) and len(one) == length for one in data)
        if not fits:
            break
        data = [item for one in data for item in one]
    if not fits:
        raise RequestInvalid(f"{where}.data holds lists within lists that do not fit the shape {list(shape)}")
    return data


_KINDS: dict[str, tuple[frozenset[type], str]] = {
    "BOOL": (frozenset({bool}), "true and false"),
    "BYTES": (frozenset({str}), "text"),
    **dict.fromkeys(("FP16", "FP32", "FP64"), (frozenset({int, float, type(None)}), "numbers, or null for NaN")),
}
_WHOLE = (frozenset({int}), "whole numbers")


def _check_kinds(where: str, data: Sequence[Any], datatype: str) -> None:
    """Refuse what NumPy would convert: text to numbers, numbers to true and false, 1.5 to 1."""
    allowed, expected = _KINDS.get(datatype, _WHOLE)
    found = set(map(type, data))
    if not found <= allowed:
        number = next(number for number, item in enumerate(data) if type(item) not in allowed)
        raise RequestInvalid(
            f"{where}.data holds {_kind(data[number])} at element {number}; expected {expected}, since the datatype is {datatype}"
        )


def _kind(value: Any) -> str:
    """What a value of JSON is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    names = {
        str: "text",
        int: "a whole number",
        float: "a number with a fraction, or beyond 64 bits",
        dict: "an object",
    }
    return names.get(type(value), "something else")


def write_answer(name: str, version: str, identity: str | None, outputs: Mapping[str, Array]) -> bytes:
    """
    The body of an answer.

    :raises ModelFailed: if an array is of a type that the protocol does not have
    """
    document: dict[str, Any] = {"model_name": name, "model_version": version}
    if identity is not None:
        document["id"] = identity
    document["outputs"] = [_output(one, array) for one, array in outputs.items()]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _output(name: str, array: Array) -> dict[str, Any]:
    datatype = datatype_of(array.dtype)
    if datatype is None:
        raise ModelFailed(f"the model gives {array.dtype} for {shown(name)}, which the protocol does not have")
    flat = np.ascontiguousarray(array).reshape(-1)
    data: Any = flat
    if datatype == "BYTES":
        data = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in flat.tolist()]
    elif not flat.dtype.isnative:
        data = flat.astype(flat.dtype.newbyteorder("="))
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def datatype_of(dtype: Any) -> str | None:
    """The protocol's name of a NumPy type; ``None`` if it has none."""
    if dtype.kind in "USO" or dtype.kind == "T":
        return "BYTES"
    return _NAMES.get(dtype.newbyteorder("="))
