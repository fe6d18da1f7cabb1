# SPDX-License-Identifier: Apache-2.0
"""Values of parameters as the command line gives them: text, read by the type that the spec declares."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.strict_json import each_once
from airflow_mlops.cli.errors import CommandError
from airflow_mlops.spec.forms import fits_64_bits
from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from airflow_mlops.spec import Param, Pipeline

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_JSON_TYPES = {"boolean": bool, "array": list, "object": dict, "null": type(None)}


def read_params(pipeline: Pipeline, words: Sequence[str], *, need_all: bool = True) -> dict[str, Any]:
    """
    Read ``name=value`` words.

    :param need_all: whether a parameter without a default must be among them
    :return: the given values by name, without defaults
    :raises CommandError: if a name is unknown, a value is not what its parameter allows, or one is missing; all at once
    """
    given: dict[str, Any] = {}
    problems: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        param = pipeline.params.get(name)
        if not equals:
            problems.append(f"-p {word}: expected NAME=VALUE")
        elif param is None:
            problems.append(
                f"-p {word}: pipeline '{pipeline.spec.name}' has no parameter '{name}'; "
                f"expected {one_of(pipeline.params)}{did_you_mean(name, pipeline.params)}"
            )
        else:
            try:
                given[name] = read_value(param, text)
            except ValueError as error:
                problems.append(f"-p {word}: the value {error}")
    if need_all:
        missing = [name for name, param in pipeline.params.items() if not param.has_default and name not in given]
        problems += [
            f"parameter '{name}' has no default; give it with -p {name}=VALUE" for name in missing if not problems
        ]
    if problems:
        raise CommandError("\n".join(problems))
    return given


def with_defaults(pipeline: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    """All values of a run, in the order of the spec."""
    return {
        name: given[name] if name in given else param.default
        for name, param in pipeline.params.items()
        if name in given or param.has_default
    }


def read_value(param: Param, text: str) -> Any:
    """
    The value that a text stands for: a JSON value where the type allows one, else the text itself.

    :raises ValueError: saying what is wrong with it, as the rest of a sentence about the parameter
    """
    from airflow_mlops.spec.params import value_problem, whole

    value = _value(_types(param), param.schema.get("enum"), text)
    problem = value_problem(param.schema, value)
    if problem:
        raise ValueError(problem)
    return whole(param.schema, value)


def _value(types: list[str], enum: list[Any] | None, text: str) -> Any:
    if types == ["string"] or (enum and text in enum):
        return text
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        number = _number(text) if "number" in types else None
        if number is not None:
            return number
        if "string" in types:
            return text
        raise ValueError(f"is not {_expected(types)}") from None
    return value if "string" not in types or _fits(value, types) else text


def _types(param: Param) -> list[str]:
    """The JSON types of a parameter; any, when it only lists its values."""
    declared = param.schema.get("type")
    if declared is None:
        return ["string", "number", "boolean", "array", "object", "null"]
    return list(declared) if isinstance(declared, list) else [declared]


def _fits(value: Any, types: list[str]) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number" in types or (
            "integer" in types and math.isfinite(value) and value == int(value) and fits_64_bits(int(value))
        )
    return any(isinstance(value, _JSON_TYPES[name]) for name in types if name in _JSON_TYPES)


def _number(text: str) -> float | None:
    """A number as people type it and JSON does not take it, such as ``.5``."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"holds {name}")


def _expected(types: list[str]) -> str:
    examples = {
        "integer": "an integer such as 3",
        "number": "a number such as 0.25",
        "boolean": "a boolean: true or false",
        "array": "a JSON list such as '[1, 2]'",
        "object": "a JSON object such as '{\"depth\": 3}'",
        "null": "null",
    }
    return " or ".join(examples[name] for name in types if name in examples)
