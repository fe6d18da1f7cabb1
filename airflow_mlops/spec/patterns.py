# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of a spec: those that Python, which Airflow checks with, and a matcher in linear time read alike."""

from __future__ import annotations

import re
import warnings
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

from airflow_mlops.spec.forms import cut


def pattern_problem(pattern: Any) -> str | None:
    """What is wrong with a regular expression; ``None`` if nothing, or if there is none."""
    if not isinstance(pattern, str):
        return None
    try:
        with warnings.catch_warnings():
            # What will mean something else in a later Python means something else in JSON Schema already.
            warnings.simplefilter("error")
            re.compile(pattern)
    except FutureWarning as warning:
        return f"{cut(pattern)} is not clear: {warning}; expected the brackets in it escaped"
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        return f"{cut(pattern)} is no regular expression: {error}; expected one"
    if linear_matcher(pattern) is None:
        return (
            f"{cut(pattern)} is a regular expression that only Python knows, and nothing bounds the time it takes; "
            f"expected a shorter one, without '(?=', '(?!', '(?<=', back-references, '\\Z' and braces that count nothing"
        )
    return None


def linear_matcher(pattern: str) -> Any:
    """A matcher in linear time, so that a pattern cannot hang its reader; ``None`` if there is none."""
    try:
        # What Python takes for an escaped character is a word's edge there.
        pattern = re.sub(r"((?:^|[^\\])(?:\\\\)*)\\([<>])", r"\1\2", pattern)
        return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    except SchemaError:
        return None
