# SPDX-License-Identifier: Apache-2.0
"""
What a ``metrics`` output may hold: ``docs/metrics.md`` shows it, ``schemas/metrics.schema.json`` is its JSON Schema.

A JSON object. A value is a finite number, which gates, picks and tables read, or one of the shapes of
:mod:`~airflow_mlops.artifacts.shapes`, which pages and commands draw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from airflow_mlops.artifacts import strict_json
from airflow_mlops.artifacts.errors import DocumentInvalid, listed
from airflow_mlops.artifacts.parameters import shown
from airflow_mlops.artifacts.shapes import EXPECTED, KINDS, UNEQUAL, AnyShape, Series, is_number, model_of

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store

MAX_METRICS = 1 << 20
"""Bytes of a metrics file."""

MAX_KEY = 128
MAX_SCALARS = 200
"""Numbers of a metrics file: they travel with the artifact, as its metadata."""

SCHEMA = Path(__file__).parent / "schemas" / "metrics.schema.json"

_MODELS = tuple(model for models in KINDS.values() for model in models)
_EXPECTED = {"list_type": "a list", "string_type": "a text", "model_type": "an object"}
"""What pydantic's own errors expect, in the words of the others."""


@dataclass(frozen=True)
class Metrics:
    """
    The content of a metrics file.

    :param scalars: its numbers
    :param shapes: what is to be drawn
    """

    scalars: dict[str, int | float]
    shapes: dict[str, AnyShape]


def parse_metrics(data: bytes, keys: Collection[str] = ()) -> dict[str, int | float]:
    """
    Check a metrics file.

    :param keys: numbers that must be there
    :return: the numbers in it
    :raises ValueError: saying what is wrong with it
    """
    scalars = read_metrics(data).scalars
    missing = [key for key in keys if key not in scalars]
    if missing:
        raise ValueError(
            f"has no number for {listed(missing, 'key')}; it has {listed(sorted(scalars), 'key') or 'none'}"
        )
    return scalars


def read_metrics(data: bytes) -> Metrics:
    """
    Read a metrics file.

    :raises ValueError: saying what is wrong with it
    """
    try:
        document = strict_json.parse(data, limit=MAX_METRICS)
    except strict_json.NoJson as error:
        raise ValueError(f'{error}; expected a JSON object such as {{"accuracy": 0.93}}') from None
    if not isinstance(document, dict):
        raise ValueError(f'is {shown(document)}; expected a JSON object such as {{"accuracy": 0.93}}')
    found = Metrics({}, {})
    for key, value in document.items():
        if not key.isprintable() or not 0 < len(key.encode()) <= MAX_KEY:
            raise ValueError(f"has the key {shown(key)}; expected printable characters, up to {MAX_KEY} bytes")
        if is_number(value):
            found.scalars[key] = value
        else:
            found.shapes[key] = _shape(key, value)
    if len(found.scalars) > MAX_SCALARS:
        raise ValueError(
            f"has {len(found.scalars)} numbers; at most {MAX_SCALARS} are allowed: put series of numbers into a curve or "
            "table"
        )
    return found


def fetch_metrics(store: Store, key: str, digest: str) -> Metrics:
    """
    Read the metrics file that a step committed.

    :param digest: what it was then
    :raises NotFound: if it is gone
    :raises DocumentInvalid: if it is not what was committed
    :raises StoreFailed: if the store cannot be read
    """
    data = store.read(key, MAX_METRICS)
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        raise DocumentInvalid(f"{store.uri(key)} has digest {found}, but {digest} was committed: it was changed since")
    try:
        return read_metrics(data)
    except ValueError as error:
        raise DocumentInvalid(f"{store.uri(key)} {error}") from None


def metrics_schema() -> dict[str, Any]:
    """The JSON Schema of a metrics file: all that can be said in one."""
    _, schema = models_json_schema([(model, "validation") for model in _MODELS])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Metrics",
        "description": "A metrics output: finite numbers by name, and shapes to be drawn",
        "type": "object",
        "propertyNames": {"minLength": 1, "maxLength": MAX_KEY},
        "additionalProperties": {
            "anyOf": [{"type": "number"}, *({"$ref": f"#/$defs/{model.__name__}"} for model in _MODELS)]
        },
        "$defs": schema["$defs"],
    }


def write_schema() -> None:
    """Rewrite the committed schema (``python -m airflow_mlops.artifacts.metrics``)."""
    text = json.dumps(metrics_schema(), indent=2, sort_keys=True, ensure_ascii=False)
    SCHEMA.write_text(text + "\n", encoding="utf-8")


def _shape(key: str, value: Any) -> AnyShape:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"has {shown(value)} for {shown(key)}; "
            f'expected a finite number, or an object with "type": one of {", ".join(KINDS)}'
        )
    model = model_of(kind, value)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValueError(f"has a {kind} for {shown(key)} {_why(model, error)}") from None


def _why(model: type[AnyShape], error: ValidationError) -> str:
    """What is wrong with a shape; keys that are missing or unknown come first, since the rest may follow from them."""
    problems = error.errors(include_url=False)
    for kind, words in (("missing", "lacks"), ("extra_forbidden", "has the unknown key")):
        keys = [problem["loc"] for problem in problems if problem["type"] == kind]
        if keys:
            return f"{_where(keys[0][:-1], 'that')}{words} {_name(keys[0][-1])}; expected {_keys(model, len(keys[0]))}"
    first = problems[0]
    if first["type"] == UNEQUAL:
        return f"{_where(first['loc'], 'that')}has {first['msg']}"
    expected = first["msg"] if first["type"] == EXPECTED else _EXPECTED.get(first["type"], first["msg"])
    return f"{_where(first['loc'], 'that')}is {shown(first['input'])}; expected {expected}"


def _where(loc: tuple[int | str, ...], whole: str) -> str:
    """The place of a part, as the start of a relative clause; ``whole`` stands for the shape itself."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    return f"whose {path} " if path else f"{whole} "


def _name(key: int | str) -> str:
    return shown(key) if not str(key).isidentifier() else str(key)


def _keys(model: type[AnyShape], depth: int) -> str:
    """The keys of a shape, or of one of its series; those that must be there come first."""
    fields = (model if depth == 1 else Series).model_fields
    return ", ".join(sorted(set(fields) - {"type"}, key=lambda name: (not fields[name].is_required(), name)))


if __name__ == "__main__":
    write_schema()
