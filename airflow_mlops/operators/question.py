# SPDX-License-Identifier: Apache-2.0
"""
What an approval shows to whoever is to decide: numbers, parameters and artifacts, in the Markdown that Airflow's form takes.

Names and values come from programs that anybody may have written. All of them are code spans, in which Markdown makes nothing of a text: no link
and no picture either. The links are to our own pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_ROWS = 50
"""Rows of a table; what is above is counted."""

MAX_TEXT = 300
"""Characters of a name or a value."""

BAR = "\\|"
"""A bar within a cell of a table, in a code span as well."""

_KILO = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Numbers:
    """
    A named set of numbers, a column of the table in which they are compared.

    :param name: what they are numbers of
    """

    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Thing:
    """
    An artifact that the decision is about.

    :param name: what the approval calls it
    :param page: address of the page of the step that made it, below Airflow's own; empty if there is none
    :param maker: the step that made it
    :param version: the registered model that it is: ``models:churn/3``
    """

    name: str
    type: str
    uri: str
    digest: str
    size: int | None = None
    page: str = ""
    maker: str = ""
    version: str = ""


def body_of(
    numbers: Sequence[Numbers],
    values: Mapping[str, Any],
    things: Sequence[Thing],
    absent: Mapping[str, str] | None = None,
    doubt: str = "",
) -> str | None:
    """
    The text below the question.

    :param numbers: sets of numbers that stand side by side; of those after the first, what the first has more is shown, too
    :param values: parameters by name
    :param things: artifacts
    :param absent: references to registered models that there are not yet, by name
    :param doubt: why it is asked although that is not certain
    :return: ``None`` if there is nothing to show
    """
    parts = [
        *([_code(doubt)] if doubt else []),
        *_compared(numbers),
        *_absent(absent or {}),
        *_parameters(values),
        *_artifacts(things),
    ]
    return "\n\n".join(parts) or None


def _compared(numbers: Sequence[Numbers]) -> Iterable[str]:
    if not numbers:
        return
    first, *others = numbers
    names = list(dict.fromkeys(name for one in numbers for name in one.values))
    rows = [
        [_code(name), _number(first.values.get(name)), *(_against(one.values.get(name), first, name) for one in others)]
        for name in names
    ]
    yield _table(["metric", *(_code(one.name) for one in numbers)], rows, right=True)
    if others:
        yield f"In parentheses: what {_code(first.name)} has more."


def _against(value: float | None, first: Numbers, name: str) -> str:
    """Another's number, and what the first one has more."""
    own = first.values.get(name)
    if value is None or own is None:
        return _number(value)
    return f"{_number(value)} ({own - value:+.4g})"


def _absent(models: Mapping[str, str]) -> Iterable[str]:
    for name, reference in models.items():
        yield f"{_code(name)}: there is no {_code(reference)} yet."


def _parameters(values: Mapping[str, Any]) -> Iterable[str]:
    if values:
        yield _table(["parameter", "value"], [[_code(name), _code(_text(value))] for name, value in values.items()])


def _artifacts(things: Sequence[Thing]) -> Iterable[str]:
    """A list: addresses and digests are too long for a table of a terminal."""
    if things:
        yield "\n".join(line for one in things[:MAX_ROWS] for line in _artifact(one))
    if len(things) > MAX_ROWS:
        yield f"… and {len(things) - MAX_ROWS} more"


def _artifact(thing: Thing) -> Iterable[str]:
    facts = [thing.type, *([_size(thing.size)] if thing.size is not None else [])]
    facts += [_code(thing.version)] * bool(thing.version)
    facts += [f"made by [{_code(thing.maker)}]({thing.page})"] * bool(thing.page)
    yield f"- {_code(thing.name)}: {', '.join(facts)}"
    yield from (f"  - {_code(text)}" for text in (thing.uri, thing.digest))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    lines = [columns, ["---", *["---:" if right else "---"] * (len(columns) - 1)], *rows[:MAX_ROWS]]
    text = "\n".join(f"| {' | '.join(cell.replace('|', BAR) for cell in line)} |" for line in lines)
    return text if len(rows) <= MAX_ROWS else f"{text}\n\n… and {len(rows) - MAX_ROWS} more"


def _code(text: str) -> str:
    """A text as a code span: on one line, of what can be printed, in more backticks than it has in a row itself."""
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}…"
    if not text:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    inside = f" {text} " if "`" in text else text
    return f"{fence}{inside}{fence}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _size(count: int) -> str:
    power = min(len(f"{count}") - 1, 3 * (len(_UNITS) - 1)) // 3
    return f"{count / _KILO**power:.4g} {_UNITS[power]}"
