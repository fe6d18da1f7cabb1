# SPDX-License-Identifier: Apache-2.0
"""Registered models as inputs of steps that look at them, and can do without one that there is not yet: gates and approvals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator


def models_read(operator: StepOperator) -> dict[str, str]:
    """References to the registered models that a step reads, by the name of the input."""
    from airflow_mlops.operators.preparation import wires_of
    from airflow_mlops.operators.resolve import model_reference, normalise_input

    found = {name: model_reference(normalise_input(name, wire).source) for name, wire in wires_of(operator).items()}
    return {name: model for name, model in found.items() if model is not None}


def with_optional_models(inputs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Inputs of a hand-written DAG, where a registered model that there is not yet is no reason not to look at the rest."""
    if inputs is None:
        return None
    from airflow_mlops.operators.resolve import model_reference

    return {
        name: {"from": value, "optional": True} if "@" in (model_reference(value) or "") else value
        for name, value in inputs.items()
    }
