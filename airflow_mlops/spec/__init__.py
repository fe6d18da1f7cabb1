# SPDX-License-Identifier: Apache-2.0
"""
What a pipeline is: the format of a spec file, and the tree that everything else walks.

This package imports neither Airflow nor docker nor kubernetes, so that specs can be checked in an editor, a CI job or a
notebook.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.spec.graph import Group, Input, Param, Pipeline, Step
    from airflow_mlops.spec.loading import load_pipeline
    from airflow_mlops.spec.models import PipelineSpec, StepSpec
    from airflow_mlops.spec.parts import InputSpec, Output, Resources, Secret, Volume
    from airflow_mlops.spec.pictures import to_mermaid, to_text
    from airflow_mlops.spec.problems import Problem, SpecError
    from airflow_mlops.spec.schema import spec_schema
    from airflow_mlops.spec.templates import TemplateError, references, render

_HOMES = {
    "graph": ("Group", "Input", "Param", "Pipeline", "Step"),
    "loading": ("load_pipeline",),
    "models": ("PipelineSpec", "StepSpec"),
    "parts": ("InputSpec", "Output", "Resources", "Secret", "Volume"),
    "pictures": ("to_mermaid", "to_text"),
    "problems": ("Problem", "SpecError"),
    "schema": ("spec_schema",),
    "templates": ("TemplateError", "references", "render"),
}
_LAZY = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Group",
    "Input",
    "InputSpec",
    "Output",
    "Param",
    "Pipeline",
    "PipelineSpec",
    "Problem",
    "Resources",
    "Secret",
    "SpecError",
    "Step",
    "StepSpec",
    "TemplateError",
    "Volume",
    "load_pipeline",
    "references",
    "render",
    "spec_schema",
    "to_mermaid",
    "to_text",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: the problem classes must not cost the import of pydantic."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
