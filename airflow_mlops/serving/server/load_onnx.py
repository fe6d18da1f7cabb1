# SPDX-License-Identifier: Apache-2.0
"""
Models in ONNX, by ONNX Runtime: the format that says itself what it takes and gives, runs no code of its own and needs no training library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from airflow_mlops.serving.server.errors import ModelRefused, PackageMissing, RequestInvalid
from airflow_mlops.serving.server.models import check_inputs, first_line, wanted
from airflow_mlops.serving.server.protocol import Array, InferRequest, TensorSpec

_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_TENSOR = re.compile(r"tensor\((\w+)\)")
_ROWS_OF_LABELS = re.compile(r"seq\(map\((?:int64|string),tensor\(float\)\)\)")
"""What converters of scikit-learn make of probabilities unless they are told not to: for each row a mapping from labels to numbers."""


class OnnxModel:
    """A session of ONNX Runtime."""

    platform = "onnxruntime_onnx"

    def __init__(self, session: Any, where: Path, invalid: type[Exception]) -> None:
        self._session = session
        self._invalid = invalid
        self._lengths = {one.name: one.shape for one in session.get_inputs()}
        self.inputs = tuple(_spec(one, where, "input") for one in session.get_inputs())
        self.outputs = tuple(_spec(one, where, "output") for one in session.get_outputs())

    def predict(self, request: InferRequest) -> Mapping[str, Array]:
        """See :class:`~airflow_mlops.serving.server.models.Model`."""
        check_inputs(self.inputs, request)
        names = wanted(self.outputs, request)
        try:
            results = self._session.run(names, dict(request.inputs))
        except Exception as error:
            # Exporters give lengths the same name that need not be the same, so that their names alone prove nothing.
            if isinstance(error, self._invalid) or not self._is_tied(request.inputs):
                message = f"the model does not take these inputs together: {first_line(error)}"
                raise RequestInvalid(message) from error
            raise
        return {name: _array(result) for name, result in zip(names, results, strict=True)}

    def _is_tied(self, inputs: Mapping[str, Array]) -> bool:
        """Whether lengths that have one name in the graph are the same."""
        found: dict[str, int] = {}
        for name, names in self._lengths.items():
            for label, length in zip(names, inputs[name].shape, strict=True):
                if isinstance(label, str) and found.setdefault(label, length) != length:
                    return False
        return True


def _spec(found: Any, where: Path, side: str) -> TensorSpec:
    tensor = _TENSOR.fullmatch(found.type)
    if tensor and tensor[1] in _TYPES:
        # A length that has a name, or none, is any length.
        shape = tuple(length if isinstance(length, int) and length > 0 else -1 for length in found.shape)
        return TensorSpec(found.name, (_TYPES[tensor[1]],), shape)
    if side == "output" and _ROWS_OF_LABELS.fullmatch(found.type):
        return TensorSpec(found.name, ("FP32",), (-1, -1))
    raise ModelRefused(
        f"{where} has the {side} {found.name!r} of type {found.type}, which the protocol does not have; expected tensors of {', '.join(_TYPES)}"
    )


def _array(result: Any) -> Array:
    if isinstance(result, list):
        # Each row has the same labels in the same order, that of the labels.
        return np.array([list(row.values()) for row in result], dtype=np.float32)
    return np.asarray(result)


def load_onnx(path: Path, *, in_folder: bool, threads: int) -> OnnxModel:
    """
    Load a model.

    :param in_folder: its digest is that of the folder; else it is the file's alone, and weights in other files are refused
    :param threads: for one prediction
    :raises ModelRefused: if it is no ONNX model, or takes or gives what the protocol does not have
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
    except ImportError as error:
        raise PackageMissing(f"{path} is an ONNX model; install onnxruntime to serve it: {error}") from error

    # Not all that are built in: one of them would ask a service of Azure.
    providers = [one for one in _PROVIDERS if one in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with TemporaryDirectory() as nothing:
        if in_folder:
            source: Any = str(path)
        else:
            # ONNX Runtime would look for weights in the working folder, which no digest vouches for.
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", nothing)
            source = path.read_bytes()
        try:
            session = onnxruntime.InferenceSession(source, options, providers=providers)
        except Exception as error:  # an exception class for each status, without one of their own above them
            raise ModelRefused(
                f"{path} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {first_line(error)}"
            ) from error
    return OnnxModel(session, path, InvalidArgument)
