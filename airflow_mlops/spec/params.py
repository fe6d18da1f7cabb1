# SPDX-License-Identifier: Apache-2.0
"""Parameters of a pipeline as JSON Schema, and whether a default lies within its own bounds."""

from __future__ import annotations

import json
import math
import operator
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_mlops.spec.forms import cut, fits_64_bits, kind_of
from airflow_mlops.spec.graph import Param
from airflow_mlops.spec.models import ParamSpec
from airflow_mlops.spec.patterns import linear_matcher, pattern_problem
from airflow_mlops.spec.problems import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DEPTH = 64

_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", "at least", operator.ge),
    ("maximum", "at most", operator.le),
    ("exclusiveMinimum", "more than", operator.gt),
    ("exclusiveMaximum", "less than", operator.lt),
)
_INFERRED = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def to_param(spec: ParamSpec) -> Param:
    """A parameter as Airflow's ``Param`` takes it."""
    schema = {name: getattr(spec, name) for name in ParamSpec.model_fields if name in spec.model_fields_set}
    has_default = "default" in schema
    default = schema.pop("default", None)
    for name in [name for name, value in schema.items() if value is None]:
        del schema[name]
    if has_default and "type" not in schema and "enum" not in schema and default is not None:
        schema = {"type": _INFERRED[type(default)], **schema}
    return Param(schema, whole(schema, default), has_default)


def whole(schema: dict[str, Any], value: Any) -> Any:
    """A value as programs expect it: ``1e3`` where an integer is meant is ``1000``."""
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    if isinstance(value, float) and "integer" in names and "number" not in names and value.is_integer():
        return int(value)
    return value


def check_param(spec: ParamSpec) -> Iterator[tuple[str, str]]:
    """
    What is wrong with a parameter.

    :return: the field, and the problem
    """
    param = to_param(spec)
    schema = param.schema
    problems = list(_schema_problems(schema))
    yield from problems
    if problems or not param.has_default:
        return
    if param.default is None and "type" not in schema and "enum" not in schema:
        yield (
            "default",
            "the default is null, which tells no type; expected 'type' beside it, such as type: [string, 'null']",
        )
        return
    if problem := value_problem(schema, param.default):
        yield "default", f"default {cut(param.default)} {problem}"


def value_problem(schema: dict[str, Any], value: Any) -> str | None:
    """What is wrong with a value of a parameter; ``None`` if nothing."""
    for check in (_storable, _type, _enum, _range, _size, _matches):
        if problem := check(schema, value):
            return problem
    if _needs_more(schema):
        from airflow_mlops.spec.json_schema import violation

        return violation(schema, value)
    return None


def _needs_more(schema: dict[str, Any]) -> bool:
    """Whether Airflow's own validator sees more in a schema than the checks here."""
    return (
        not schema.keys().isdisjoint(("items", "format", "uniqueItems"))
        or isinstance(schema.get("multipleOf"), float)
        or any(isinstance(item, (list, dict)) for item in schema.get("enum", ()))
    )


def _schema_problems(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with the fields by themselves, and which of them leave no value."""
    if problem := pattern_problem(schema.get("pattern")):
        yield "pattern", problem
    if "multipleOf" in schema and schema["multipleOf"] <= 0:
        yield "multipleOf", f"multipleOf is {schema['multipleOf']}; expected a number above zero"
        return
    if empty := _empty_range(schema):
        yield empty
    if "items" in schema and (problem_of_items := _items_problem(schema["items"])):
        yield "items", problem_of_items
        return
    alone = {name: value for name, value in schema.items() if name != "enum"}
    for item in schema.get("enum", ()):
        if problem := value_problem(alone, item):
            yield "enum", f"{cut(item)} of 'enum' {problem}"
            return


def _empty_range(schema: dict[str, Any]) -> tuple[str, str] | None:
    """The lower bound and the upper bound that leave nothing between them."""
    for lows, highs in (
        (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")),
        (("minLength",), ("maxLength",)),
        (("minItems",), ("maxItems",)),
    ):
        for low, high in ((low, high) for low in lows for high in highs if low in schema and high in schema):
            least, most = schema[low], schema[high]
            if least > most or (least == most and "exclusive" in low + high):
                word = "larger than" if least > most else "the same as"
                return low, f"{low} {least} is {word} {high} {most}; expected a range that holds something"
    return None


def _items_problem(items: dict[str, Any]) -> str | None:
    from airflow_mlops.spec.json_schema import patterns, schema_problem

    return schema_problem(items) or next(filter(None, map(pattern_problem, patterns(items))), None)


def _storable(schema: dict[str, Any], value: Any) -> str | None:
    """Against what neither Airflow's database nor the environment of a program can hold, however deep it lies."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_DEPTH:
            return f"is nested deeper than {MAX_DEPTH} levels; expected a flatter value"
        if isinstance(item, str) and (problem := _text_problem(item)):
            return problem
        if isinstance(item, int) and not fits_64_bits(item):
            return f"holds the integer {cut(item, 24)}, which does not fit into 64 bits; expected a smaller one"
        if isinstance(item, float) and not math.isfinite(item):
            return "holds no finite number; expected one that JSON can hold"
        if isinstance(item, dict):
            pending.extend((inner, depth + 1) for inner in (*item, *item.values()))
        elif isinstance(item, list):
            pending.extend((inner, depth + 1) for inner in item)
    return None


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character, which no program can be given"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds bytes or halves of characters that are no text; expected UTF-8"
    return None


def _is_type(name: str, value: Any) -> bool:
    if name == "number":
        return _is_number(value)
    if name == "integer":
        return _is_number(value) and (isinstance(value, int) or value.is_integer())
    kinds: dict[str, type] = {
        "string": str,
        "boolean": bool,
        "array": list,
        "object": dict,
        "null": type(None),
    }
    return name in kinds and isinstance(value, kinds[name])


def _type(schema: dict[str, Any], value: Any) -> str | None:
    types = schema.get("type")
    if types is None:
        return None
    names = types if isinstance(types, list) else [types]
    if any(isinstance(name, str) and _is_type(name, value) for name in names):
        return None
    return f"is {kind_of(value)}; expected {one_of([str(name) for name in names])}, which 'type' asks for"


def _enum(schema: dict[str, Any], value: Any) -> str | None:
    enum = schema.get("enum")
    if not isinstance(enum, list) or any(
        item == value and isinstance(item, bool) == isinstance(value, bool) for item in enum
    ):
        return None
    return f"is not in 'enum'; expected {one_of([cut(item) for item in enum])}"


def _range(schema: dict[str, Any], value: Any) -> str | None:
    if not _is_number(value):
        return None
    for name, words, holds in _BOUNDS:
        bound = schema.get(name)
        if _is_number(bound) and not holds(value, bound):
            return f"is outside the bounds; expected {words} {bound} ({name})"
    step = schema.get("multipleOf")
    if _is_number(step) and step and not _is_multiple(value, step):
        return f"is no multiple of {step}; expected one (multipleOf)"
    return None


def _is_multiple(value: float, step: float) -> bool:
    try:
        quotient = value / step
        return abs(quotient - round(quotient)) < 1e-9 * max(1.0, abs(quotient))
    except (OverflowError, ValueError):
        return isinstance(value, int) and isinstance(step, int) and value % step == 0


def _size(schema: dict[str, Any], value: Any) -> str | None:
    if not isinstance(value, (str, list)):
        return None
    suffix, what = ("Length", "characters") if isinstance(value, str) else ("Items", "items")
    least, most = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if _is_number(least) and len(value) < least:
        return f"has {len(value)} {what}; expected at least {least} (min{suffix})"
    if _is_number(most) and len(value) > most:
        return f"has {len(value)} {what}; expected at most {most} (max{suffix})"
    if isinstance(value, list) and schema.get("uniqueItems") is True and _repeats(value):
        return "repeats an item; expected each once (uniqueItems)"
    return None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _repeats(items: list[Any]) -> bool:
    texts = [json.dumps(item, sort_keys=True) for item in items]
    return len(set(texts)) < len(texts)


def _matches(schema: dict[str, Any], value: Any) -> str | None:
    pattern = schema.get("pattern")
    if not isinstance(pattern, str) or not isinstance(value, str):
        return None
    validate = linear_matcher(pattern)
    if validate is None or validate(value):
        return None
    return f"does not match its pattern; expected a string that matches {cut(pattern)}"
