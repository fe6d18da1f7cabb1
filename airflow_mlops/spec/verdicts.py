# SPDX-License-Identifier: Apache-2.0
"""What a gate found and a person answered, as manifests keep it and people read it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.spec.conditions import Verdict

MAX_VALUE = 200
"""Characters of a value that is kept: a condition may look at a long list."""

_MAX_INTEGER = 2**63


def as_document(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON: ``condition``, ``holds``, ``values`` by path, and ``why`` where it does not hold for another reason than it says."""
    document = {
        "condition": verdict.condition,
        "holds": verdict.holds,
        "values": {path: _kept(value) for path, value in verdict.values.items()},
    }
    return {**document, "why": verdict.why} if verdict.why else document


def told(document: Mapping[str, Any]) -> str:
    """One condition with what it looked at: ``m.auc >= 0.9 (m.auc = 0.87)``."""
    text = str(document.get("condition", ""))
    if why := document.get("why"):
        return f"{text} ({why})"
    values = document.get("values")
    seen = (
        ", ".join(f"{path} = {_shown(value)}" for path, value in values.items()) if isinstance(values, Mapping) else ""
    )
    return f"{text} ({seen})" if seen else text


def answer_told(document: Mapping[str, Any]) -> str:
    """What became of an approval: ``approved by ada at 2026-03-01 09:30 UTC: good enough``."""
    if document.get("asked") is False:
        when = document.get("when")
        return f"not asked, since this does not hold: {told(when)}" if isinstance(when, Mapping) else "not asked"
    if document.get("approved") is None:
        return "nobody answered in time"
    word = "approved" if document["approved"] is True else "rejected"
    if document.get("timed_out") is True:
        return f"{word} by default, since nobody answered in time"
    by = str(document.get("by")) + (f" ({document['by_id']})" if "by_id" in document else "")
    note = f": {document['note']}" if document.get("note") else ""
    return f"{word} by {by} at {_minute(document.get('at'))}{note}"


def _minute(moment: Any) -> str:
    """A time as people read it."""
    try:
        return datetime.fromisoformat(str(moment)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return str(moment)


def _kept(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        return _cut(str(value))
    if isinstance(value, (str, list, Mapping)):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return value if len(text) <= MAX_VALUE else _cut(text)
    return value


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _shown(value: Any) -> str:
    """A value to be read: of a number as many digits as tell it from most limits; the manifest has all of them."""
    return f"{value:.9g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
