# SPDX-License-Identifier: Apache-2.0
"""
Registered models as inputs of steps that look at them, and can do without one that there is not yet: gates and approvals.

What they looked at is handed on, so that the step that registers a model after them moves an alias only from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.gates import CONDITIONAL_KINDS

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.register import RegisterOperator

COMPARED = "compared"
"""Parameter of a gate and an approval: the versions that aliases meant, by reference; null for one that there was not."""


def models_read(operator: StepOperator) -> dict[str, str]:
    """References to the registered models that a step reads, by the name of the input."""
    from airflow_mlops.operators.preparation import wires_of
    from airflow_mlops.operators.resolve import model_reference, normalise_input

    found = {name: model_reference(normalise_input(name, wire).source) for name, wire in wires_of(operator).items()}
    return {name: model for name, model in found.items() if model is not None}


def compared_with(operator: StepOperator, attempt: Attempt) -> dict[str, dict[str, int | None]]:
    """The versions that the aliases meant that a step reads, as a parameter that it hands on; nothing if it reads none."""
    found: dict[str, int | None] = {}
    for name, reference in models_read(operator).items():
        if "@" in reference:
            artifact = attempt.resolved.artifacts.get(name)
            found[reference] = artifact.metadata["version"] if artifact is not None else None
    return {COMPARED: found} if found else {}


def looked_at(operator: RegisterOperator, context: Any, reference: str) -> dict[str, int | None]:
    """
    What an alias meant to the gates and approvals before a step, by their task id; not to those before an earlier step that moves it.

    :param reference: ``models:churn@champion``
    """
    found: dict[str, int | None] = {}
    for task in _before(operator):
        document = context["ti"].xcom_pull(task_ids=task) or {}
        compared = document.get("parameters", {}).get(COMPARED, {})
        if reference in compared:
            found[task] = compared[reference]
    return found


def _before(operator: RegisterOperator) -> list[str]:
    """The gates and approvals before a step, up to where its alias was moved."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = [*operator.upstream_task_ids]
    while ahead:
        if (name := ahead.pop()) in seen:
            continue
        seen.add(name)
        task: Any = operator.dag.get_task(name)
        kind = getattr(task, "kind", None)
        if kind == operator.kind and (task.model, task.alias) == (operator.model, operator.alias):
            continue
        found |= {name} if kind in CONDITIONAL_KINDS else set()
        ahead += task.upstream_task_ids
    return sorted(found)


def with_optional_models(inputs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Inputs of a hand-written DAG, where a registered model that there is not yet is no reason not to look at the rest."""
    if inputs is None:
        return None
    from airflow_mlops.operators.resolve import model_reference

    return {
        name: {"from": value, "optional": True} if "@" in (model_reference(value) or "") else value
        for name, value in inputs.items()
    }
