# SPDX-License-Identifier: Apache-2.0
"""The kinds of steps that run a program, and the operator classes of a runtime that are named after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator

PROGRAM_KINDS = {
    "preprocess": "Prepare data",
    "train": "Train a model",
    "evaluate": "Evaluate a model",
    "predict": "Predict with a model",
    "container": "Run any program",
}
"""Kinds by name, with what each is for. A spec's reader checks what a kind demands; the operators differ in name alone."""


def operators_by_kind(base: type[StepOperator], prefix: str, module: str) -> tuple[type[StepOperator], ...]:
    """
    The classes of a runtime, in the order of :data:`PROGRAM_KINDS`.

    :param base: the runtime's operator
    :param prefix: what the class names begin with, such as ``Docker``
    :param module: the module they are found in
    """
    metaclass: Any = type(base)
    return tuple(
        metaclass(
            f"{prefix}{kind.capitalize()}Operator",
            (base,),
            {
                "kind": kind,
                "__module__": module,
                "__doc__": f"{purpose} as a step: see :class:`{base.__name__}` for the parameters.",
            },
        )
        for kind, purpose in PROGRAM_KINDS.items()
    )
