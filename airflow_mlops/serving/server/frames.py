# SPDX-License-Identifier: Apache-2.0
"""Tables for models that were trained on them: one tensor of a request is one column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.serving.server.errors import PackageMissing, RequestInvalid
from airflow_mlops.serving.server.models import check_inputs
from airflow_mlops.spec.model_names import shown

if TYPE_CHECKING:
    from airflow_mlops.serving.server.protocol import InferRequest, TensorSpec


def pandas_module() -> Any:
    """
    pandas.

    :raises PackageMissing: if it is not installed
    """
    try:
        import pandas
    except ImportError as error:
        raise PackageMissing(
            f"the model takes tables with named columns; install pandas to serve it: {error}"
        ) from error
    return pandas


def frame_of(specs: Sequence[TensorSpec], request: InferRequest) -> Any:
    """
    A table of a request whose tensors are its columns: of the shape [n] or [n, 1] each.

    :raises RequestInvalid: if they are not the columns that are expected, or not of one length
    """
    check_inputs(specs, request)
    columns = {}
    rows = None
    for spec in specs:
        if spec.name not in request.inputs:
            continue
        array = request.inputs[spec.name]
        if array.ndim > 2 or array.size != array.shape[0]:
            raise RequestInvalid(
                f"the column {shown(spec.name)} has the shape {list(array.shape)}; expected [n] or [n, 1], a value for each row"
            )
        if rows not in (None, array.size):
            raise RequestInvalid(
                f"the column {shown(spec.name)} has {array.size} rows; expected {rows}, as many as those before it"
            )
        rows = array.size
        columns[spec.name] = array.reshape(-1)
    return pandas_module().DataFrame(columns)
