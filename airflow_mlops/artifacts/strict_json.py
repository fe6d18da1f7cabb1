# SPDX-License-Identifier: Apache-2.0
"""
JSON that means the same to everybody: what Python's parser lets pass is refused, and one value has one spelling.

Documents come out of containers and stores, so size, depth, duplicate keys, NaN, Infinity, endless integers and broken
Unicode are all checked here, once.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1


class NoJson(ValueError):
    """A text is no JSON at all."""


def canonical(value: Any) -> bytes:
    """
    The one spelling of a value: keys sorted, no spaces, UTF-8, a newline at the end.

    :raises ValueError: if the value holds NaN, an infinity or a lone surrogate
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def parse(data: bytes, *, limit: int) -> Any:
    """
    Read a JSON document.

    :param limit: largest size in bytes
    :raises NoJson: if it is no JSON
    :raises ValueError: saying what else is wrong with it
    """
    if len(data) > limit:
        raise ValueError(f"is {len(data)} bytes or more; at most {limit} are allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from None
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    try:
        value = json.loads(
            text,
            object_pairs_hook=each_once,
            parse_constant=constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
        check_depth(value)
        if constants:
            _refuse_constants(value)
    except json.JSONDecodeError as error:
        raise NoJson(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels") from None
    if "\\u" in text and "\\ud" in text.lower():
        _refuse_surrogates(value)
    return value


def check_depth(value: Any, depth: int = 0) -> None:
    """
    Refuse what is nested too deeply.

    :raises ValueError: if there are more than :data:`MAX_DEPTH` levels
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for item in value.values():
            check_depth(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_depth(item, depth + 1)


def _refuse_constants(value: Any) -> None:
    """Refuse NaN and infinity, which Python's parser takes, with the key that they stand for."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError(
                    f"holds {json.dumps(item)} for {key[:80]!r}, which is not a JSON number; expected a finite one, or no such key"
                )
            _refuse_constants(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_constants(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {json.dumps(value)}, which is not a JSON number")


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    An object of JSON, for ``object_pairs_hook``.

    :raises ValueError: if it has a key twice
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"has the key {key[:80]!r} twice in one object")
            seen.add(key)
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"holds {text[:40]}, which is too large for a number")
    return number


def _bounded(text: str) -> int:
    # The length first: turning a million digits into an integer takes quadratic time.
    if len(text) > len(str(MAX_INTEGER)) + 1 or not -MAX_INTEGER - 1 <= int(text) <= MAX_INTEGER:
        raise ValueError(f"holds the integer {text[:20]}{'…' if text[20:] else ''}, which does not fit into 64 bits")
    return int(text)


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is not text") from None
