# SPDX-License-Identifier: Apache-2.0
"""Specs written in a test, and what is said about them."""

from __future__ import annotations

import inspect
from pathlib import Path
from textwrap import dedent

import pytest

from airflow_mlops.spec import Pipeline, SpecError, load_pipeline

DATA = Path(__file__).parent / "data"

HEAD = "apiVersion: mlops/v1\nname: p\ndefaults: {image: img}\n"
"""Three lines that every good spec may start with; the steps of a test start on line 4."""


def load(folder: Path, text: str, **options: str | None) -> Pipeline:
    """Load a spec given as text."""
    file = folder / "spec.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return load_pipeline(file, **options)


def problems(folder: Path, text: str, **options: str | None) -> list[str]:
    """What is wrong with a spec given as text, each as ``line:column: message``."""
    with pytest.raises(SpecError) as caught:
        load(folder, text, **options)
    return [f"{item.line}:{item.column}: {item.message}" for item in caught.value.problems]


def problem(folder: Path, text: str, **options: str | None) -> str:
    """The one thing that is wrong with a spec."""
    found = problems(folder, text, **options)
    assert len(found) == 1, found
    return found[0]


def keywords_of(operator: type) -> set[str]:
    """Keywords that the constructor of an operator underneath takes by name."""
    parameters = inspect.signature(operator.__init__).parameters  # type: ignore[misc]
    return {name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
