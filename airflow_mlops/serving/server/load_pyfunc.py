# SPDX-License-Identifier: Apache-2.0
"""
Models in MLflow's format that are neither ONNX nor skops, by ``mlflow.pyfunc``. Such a model brings code and runs it when it is loaded; it is
served only where the deployment says so, and pickles in it only where they are allowed, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from airflow_mlops.serving.server.errors import ModelRefused, PackageMissing, RequestInvalid
from airflow_mlops.serving.server.frames import frame_of
from airflow_mlops.serving.server.models import check_inputs, first_line, wanted
from airflow_mlops.serving.server.protocol import DTYPES, Array, InferRequest, TensorSpec, datatype_of

INPUT = "input"
OUTPUT = "predict"

_COLUMN_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_ANY = ("FP64", *(name for name in DTYPES if name != "FP64"))


class PyfuncModel:
    """
    A model of MLflow. Its signature says what it takes and gives; without one it takes one tensor of any kind.

    :raises ModelRefused: if its signature holds what the protocol does not have
    """

    platform = "mlflow_pyfunc"

    def __init__(self, model: Any, where: Path, invalid: type[Exception]) -> None:
        self._model = model
        self._invalid = invalid
        signature = model.metadata.signature
        inputs = getattr(signature, "inputs", None)
        outputs = getattr(signature, "outputs", None)
        self._in_frame = inputs is not None and not inputs.is_tensor_spec()
        self._unnamed = inputs is None or not inputs.has_input_names()
        self.inputs = _specs(inputs, INPUT, where) if inputs is not None else (TensorSpec(INPUT, _ANY, None),)
        self.outputs = _specs(outputs, OUTPUT, where) if outputs is not None else (TensorSpec(OUTPUT, ("FP64",), None),)

    def predict(self, request: InferRequest) -> Mapping[str, Array]:
        """See :class:`~airflow_mlops.serving.server.models.Model`."""
        names = wanted(self.outputs, request)
        if self._in_frame:
            given: Any = frame_of(self.inputs, request)
        else:
            check_inputs(self.inputs, request)
            given = request.inputs[INPUT] if self._unnamed else dict(request.inputs)
        try:
            result = self._model.predict(given)
        except self._invalid as error:
            if getattr(error, "error_code", "") not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise
            raise RequestInvalid(f"the model does not take these inputs: {first_line(error)}") from error
        found = self._by_name(result)
        return {name: found[name] for name in names}

    def _by_name(self, result: Any) -> dict[str, Array]:
        names = [spec.name for spec in self.outputs]
        if isinstance(result, Mapping) or hasattr(result, "columns"):
            arrays = {str(name): np.asarray(result[name]) for name in result}
            if set(names) <= arrays.keys():
                return arrays
            if len(arrays) == 1 == len(names):
                return dict(zip(names, arrays.values(), strict=True))
            raise TypeError(f"the model gave {sorted(arrays)[:10]} where its signature says {names[:10]}")
        array = np.asarray(result)
        if len(names) == 1:
            return {names[0]: array}
        if array.ndim == 2 and array.shape[1] == len(names):
            return {name: array[:, number] for number, name in enumerate(names)}
        raise TypeError(f"the model gave one array of shape {array.shape} where its signature says {names[:10]}")


def _specs(schema: Any, default: str, where: Path) -> tuple[TensorSpec, ...]:
    found = []
    for one in schema.inputs:
        name = one.name if one.name is not None else default
        if schema.is_tensor_spec():
            datatype, shape = datatype_of(one.type), tuple(int(length) for length in one.shape)
        else:
            kind = getattr(one.type, "name", str(one.type))
            # A column may be of the shape [n] or [n, 1], which the table that is made of them looks at.
            datatype, shape = _COLUMN_TYPES.get(kind), ()
        if datatype is None:
            raise ModelRefused(
                f"{where} has {name!r} of type {one.type} in its signature, which the protocol does not have; expected numbers, booleans or text"
            )
        found.append(TensorSpec(name, (datatype,), shape or None, optional=not getattr(one, "required", True)))
    if len({spec.name for spec in found}) < len(found):
        raise ModelRefused(f"{where} has columns without names in its signature; expected a name for each")
    return tuple(found)


def load_pyfunc(folder: Path, *, allow_pickle: bool) -> PyfuncModel:
    """
    Load the model in a folder.

    :param allow_pickle: whether MLflow may unpickle what is in it
    :raises ModelRefused: if it cannot be loaded, or takes or gives what the protocol does not have
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's own default is to unpickle.
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true" if allow_pickle else "false"
    try:
        import mlflow.pyfunc
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise PackageMissing(
            f"{folder} is a model of MLflow; install mlflow and what {folder}/requirements.txt lists to serve it: {error}"
        ) from error
    try:
        model = mlflow.pyfunc.load_model(str(folder))
    except Exception as error:  # whatever its code raises
        raise ModelRefused(
            f"{folder} cannot be loaded by MLflow: {type(error).__name__}: {first_line(error)}"
        ) from error
    return PyfuncModel(model, folder, MlflowException)
