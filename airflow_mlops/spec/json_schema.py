# SPDX-License-Identifier: Apache-2.0
"""
JSON Schema in full, for what a parameter says of its items or of a string's format.

Airflow validates a run's parameters with the same library, so what passes here passes there. Its import takes as long as
reading a spec, so that it is loaded for the parameters that need it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from jsonschema.exceptions import SchemaError, best_match

from airflow_mlops.spec.forms import cut
from airflow_mlops.spec.patterns import linear_matcher

MAX_KEYWORDS = 300
"""Keys of a schema with all aliases expanded: checking a value takes time that grows with their combinations."""

_COSTLY = frozenset(("unevaluatedProperties", "unevaluatedItems", "patternProperties", "dependentSchemas"))


def _matches(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """``pattern``, in linear time: the library's own may take forever."""
    matches = linear_matcher(pattern)
    if isinstance(instance, str) and matches is not None and not matches(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = validators.extend(Draft202012Validator, {"pattern": _matches})


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a parameter's ``items``; ``None`` if nothing."""
    for count, (key, _) in enumerate(_keywords(schema)):
        if count > MAX_KEYWORDS:
            return f"'items' has more than {MAX_KEYWORDS} parts; expected a shorter schema"
        if key in _COSTLY:
            return f"{cut(key)} in 'items' is refused, since nothing bounds the time it takes; expected 'properties'"
        if key.startswith("$"):
            return (
                f"{cut(key)} in 'items' is refused, since it refers to other documents; expected the schema written out"
            )
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker())
    except SchemaError as error:
        where = "".join(f"[{part!r}]" for part in error.absolute_path)
        return f"'items' is no JSON Schema: {cut(error.message, 200)[1:-1]}{f' (at {where})' if where else ''}; expected one"
    return None


def patterns(schema: Mapping[str, Any]) -> Iterator[str]:
    """All regular expressions of a schema."""
    for key, value in _keywords(schema):
        if key == "pattern" and isinstance(value, str):
            yield value


def violation(schema: Mapping[str, Any], value: Any) -> str | None:
    """How a value violates a schema; ``None`` if it does not."""
    error = best_match(_Validator(schema, format_checker=FormatChecker()).iter_errors(value))
    if error is None:
        return None
    where = "".join(f"[{part!r}]" for part in error.absolute_path)
    said = cut(error.message, 200)[1:-1]
    return (
        f"is refused{f' at {where}' if where else ''}: {said}; expected {error.validator}: {cut(error.validator_value)}"
    )


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Keys of all mappings that a schema is made of. A property that is called like a keyword is among them."""
    pending = [schema]
    while pending:
        current = pending.pop()
        if isinstance(current, Mapping):
            yield from ((str(key), value) for key, value in current.items())
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)
