# SPDX-License-Identifier: Apache-2.0
"""Whether a schedule is one that Airflow understands, found out without importing Airflow or a cron library."""

from __future__ import annotations

import re
from difflib import get_close_matches

PRESETS = (
    "@once",
    "@continuous",
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@quarterly",
    "@yearly",
)

_MONTHS = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_PART = re.compile(r"(\*|\?|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]{1,3}))?\Z")
_SPECIAL = re.compile(r"l|l[0-7]|[0-7]#[1-5]|[a-z]{3}#[1-5]")


def check_cron(text: str) -> str | None:
    """What is wrong with a schedule, or ``None``."""
    if text.startswith("@"):
        if text in PRESETS:
            return None
        near = get_close_matches(text, PRESETS, n=1)
        return f"expected one of {', '.join(PRESETS)}" + (f"; did you mean '{near[0]}'?" if near else "")
    fields = text.lower().split() if len(text) <= 200 else []  # noqa: PLR2004
    if len(fields) != len(_FIELDS):
        return (
            "expected cron's five fields (minute, hour, day of month, month, day of week) or a preset such as @weekly"
        )
    for field, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        if not all(_valid(part, low, high, names) for part in field.split(",")):
            return f"'{field}' is no {name}; expected {low} to {high}, *, a-b or */n"
    return None


def _valid(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    if names and _SPECIAL.fullmatch(part) or low == 1 and part == "l":
        return True
    match = _PART.match(part)
    if match is None or match[3] == "0":
        return False
    if match[1] in ("*", "?"):
        return match[2] is None
    values = [_number(item, names, low) for item in (match[1], match[2]) if item is not None]
    return all(value is not None and low <= value <= high for value in values)


def _number(text: str, names: tuple[str, ...], low: int) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdigit() and len(text) <= 2 else None  # noqa: PLR2004
