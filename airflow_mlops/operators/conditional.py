# SPDX-License-Identifier: Apache-2.0
"""The conditions of gates and approvals. Looked at where a DAG by hand is parsed, too, so nothing is loaded here that a task alone needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.preparation import wires_of
from airflow_mlops.spec.gates import PARAMS

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.spec.conditions import Condition


def parsed(operator: StepOperator, texts: Sequence[str], complaint: str) -> list[Condition]:
    """
    Conditions of a step over its inputs and ``params``.

    :param complaint: what is said of one that is none
    :raises BadStep: if one is none
    """
    from airflow_mlops.spec.cel_tree import ConditionError
    from airflow_mlops.spec.conditions import parse

    names = frozenset((*wires_of(operator), PARAMS))
    try:
        return [parse(text, names) for text in texts]
    except ConditionError as error:
        raise BadStep(
            f"step '{operator.task_id}': {complaint}, column {error.column}: {error}; it may speak of {', '.join(sorted(names))}"
        ) from error
