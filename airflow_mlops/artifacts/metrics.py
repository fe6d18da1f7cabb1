# SPDX-License-Identifier: Apache-2.0
"""
What a ``metrics`` output may hold.

A JSON object. A value is a finite number, which gates, picks and tables read, or one of these shapes, which pages draw:

``{"type": "curve", "x": [numbers], "y": [numbers], "x_label": text, "y_label": text}``
    two lists of one length; the labels may be left out
``{"type": "matrix", "values": [lists of numbers, of one length], "labels": [texts]}``
    a confusion matrix and the like; ``labels`` (as many as there are lists) may be left out
``{"type": "table", "columns": [texts], "rows": [lists of numbers, texts, booleans and nulls, as long as columns]}``
``{"type": "text", "text": text}``

Keys are printable characters, up to 128 bytes; a file has up to 200 numbers. Every shape may have a ``title``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from airflow_mlops.artifacts import strict_json
from airflow_mlops.artifacts.errors import listed
from airflow_mlops.artifacts.parameters import shown

MAX_METRICS = 1 << 20
"""Bytes of a metrics file."""

MAX_KEY = 128
MAX_SCALARS = 200
"""Numbers of a metrics file: they travel with the artifact, as its metadata."""


def parse_metrics(data: bytes, keys: Collection[str] = ()) -> dict[str, int | float]:
    """
    Check a metrics file.

    :param keys: numbers that must be there
    :return: the numbers in it
    :raises ValueError: saying what is wrong with it
    """
    try:
        document = strict_json.parse(data, limit=MAX_METRICS)
    except strict_json.NoJson as error:
        raise ValueError(f'{error}; expected a JSON object such as {{"accuracy": 0.93}}') from None
    if not isinstance(document, dict):
        raise ValueError(f'is {shown(document)}; expected a JSON object such as {{"accuracy": 0.93}}')
    scalars: dict[str, int | float] = {}
    for key, value in document.items():
        if not key.isprintable() or not 0 < len(key.encode()) <= MAX_KEY:
            raise ValueError(f"has the key {shown(key)}; expected printable characters, up to {MAX_KEY} bytes")
        if _is_number(value):
            scalars[key] = value
        else:
            _check_shape(key, value)
    if len(scalars) > MAX_SCALARS:
        raise ValueError(
            f"has {len(scalars)} numbers; at most {MAX_SCALARS} are allowed: put series of numbers into a curve or "
            "table"
        )
    missing = [key for key in keys if key not in scalars]
    if missing:
        raise ValueError(
            f"has no number for {listed(missing, 'key')}; it has {listed(sorted(scalars), 'key') or 'none'}"
        )
    return scalars


def _check_shape(key: str, value: Any) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _SHAPES:
        raise ValueError(
            f"has {shown(value)} for {shown(key)}; "
            f'expected a finite number, or an object with "type": one of {", ".join(_SHAPES)}'
        )
    required, optional, holds = _SHAPES[kind]
    unknown = set(value) - required - optional - {"type", "title"}
    absent = required - set(value)
    if unknown or absent:
        what = (
            f"lacks {listed(sorted(absent), 'key')}" if absent else f"has the unknown key {shown(sorted(unknown)[0])}"
        )
        raise ValueError(
            f"has a {kind} for {shown(key)} that {what}; expected {', '.join(sorted(required | optional))}"
        )
    if not isinstance(value.get("title", ""), str) or not holds(value):
        raise ValueError(f"has a {kind} for {shown(key)} whose parts do not fit together; expected {_FITS[kind]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _all_of(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(check(item) for item in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _is_curve(value: dict[str, Any]) -> bool:
    labels = _is_text(value.get("x_label", "")) and _is_text(value.get("y_label", ""))
    return (
        labels
        and _all_of(value["x"], _is_number)
        and _all_of(value["y"], _is_number)
        and len(value["x"]) == len(value["y"])
    )


def _is_matrix(value: dict[str, Any]) -> bool:
    rows, labels = value["values"], value.get("labels")
    return (
        _all_of(rows, lambda row: _all_of(row, _is_number))
        and len({len(row) for row in rows}) <= 1
        and (labels is None or (_all_of(labels, _is_text) and len(labels) == len(rows)))
    )


def _is_table(value: dict[str, Any]) -> bool:
    columns = value["columns"]
    return _all_of(columns, _is_text) and _all_of(
        value["rows"], lambda row: _all_of(row, _is_cell) and len(row) == len(columns)
    )


_FITS = {
    "curve": "x and y as lists of as many numbers each, and labels as texts",
    "matrix": "values as lists of as many numbers each, and as many labels as lists",
    "table": "columns as texts, and rows as lists of as many numbers, texts, booleans and nulls",
    "text": "a text",
}
_SHAPES: dict[str, tuple[set[str], set[str], Callable[[dict[str, Any]], bool]]] = {
    "curve": ({"x", "y"}, {"x_label", "y_label"}, _is_curve),
    "matrix": ({"values"}, {"labels"}, _is_matrix),
    "table": ({"columns", "rows"}, set(), _is_table),
    "text": ({"text"}, set(), lambda value: _is_text(value["text"])),
}
