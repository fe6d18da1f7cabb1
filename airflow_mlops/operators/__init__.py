# SPDX-License-Identifier: Apache-2.0
"""
A step as an Airflow task: for DAGs that are written by hand, and what a spec's steps become.

Names are loaded on first use: a DAG whose steps are processes must not import the Docker client.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_KINDS = ("Preprocess", "Train", "Evaluate", "Predict", "Container", "Step")
_HOMES = {
    "base": ("StepOperator",),
    "docker": tuple(f"Docker{kind}Operator" for kind in _KINDS),
    "failures": (
        "BadStep",
        "CannotStart",
        "GateClosed",
        "InfrastructureFailure",
        "NoWinner",
        "OutOfMemory",
        "OutputsRefused",
        "Overtaken",
        "PolicyViolation",
        "Rejected",
        "ProgramFailed",
        "StepDetached",
        "StepFailure",
        "StepStopped",
        "StepTimeout",
        "Unanswered",
    ),
    "approve": ("ApproveOperator",),
    "gate": ("GateOperator",),
    "kubernetes": tuple(f"Kubernetes{kind}Operator" for kind in _KINDS),
    "pick": ("PickOperator",),
    "process": tuple(f"Process{kind}Operator" for kind in _KINDS),
    "register": ("RegisterOperator",),
    "references": ("ImportOperator", "WrappedOperator"),
}
_LAZY = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_LAZY)  # noqa: PLE0605 - made from the table above


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
