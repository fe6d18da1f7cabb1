# SPDX-License-Identifier: Apache-2.0
"""Quantities as people write them: memory (``2Gi``), CPU (``500m``), durations (``1h30m``)."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

_UNITS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
_BYTES = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([A-Za-z]{0,3})\Z", re.ASCII)
_CPU = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(m?)\Z", re.ASCII)
_DURATION = re.compile(
    r"(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,9})s)?\Z",
    re.ASCII,
)

_MAX_BYTES = 1 << 60
_MAX_CPU = 100_000
_MAX_DURATION = timedelta(days=3650)


def parse_bytes(value: Any) -> int:
    """
    Bytes of a memory quantity.

    :param value: a count of bytes, or a number with one of k, M, G, T, P (powers of 1000) or Ki, Mi, Gi, Ti, Pi (of
        1024)
    :raises ValueError: if it is not such a quantity, or not above zero
    """
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    match = _BYTES.match(text) if len(text) <= 32 else None  # noqa: PLR2004
    if match is None:
        raise ValueError("expected a quantity of memory such as 512Mi, 2Gi or 1G")
    number, unit = match.groups()
    if unit not in _UNITS:
        near = {
            "b": "",
            "g": "Gi",
            "gb": "G",
            "gib": "Gi",
            "m": "Mi",
            "mb": "M",
            "mib": "Mi",
            "kb": "k",
            "kib": "Ki",
        }
        hint = near.get(unit.lower())
        tail = f"; did you mean '{number}{hint}'?" if hint is not None else ""
        raise ValueError(f"unit '{unit}' is not one of k, M, G, T, P, Ki, Mi, Gi, Ti, Pi{tail}")
    amount = int(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]
    if not 0 < amount <= _MAX_BYTES:
        raise ValueError("expected a quantity of memory above zero and below 1024Pi")
    return amount


def format_bytes(amount: int) -> str:
    """The shortest form that :func:`parse_bytes` reads back."""
    for unit in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        if amount % _UNITS[unit] == 0:
            return f"{amount // _UNITS[unit]}{unit}"
    return str(amount)


def parse_cpu(value: Any) -> float:
    """
    Cores of a CPU quantity.

    :param value: a number of cores, or thousandths of one as ``500m``
    :raises ValueError: if it is not such a quantity, or not above zero
    """
    cores = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        cores = float(min(value, _MAX_CPU + 1))
    elif isinstance(value, str) and (match := _CPU.match(value)):
        cores = float(match[1]) / (1000 if match[2] else 1)
    if not 0 < cores <= _MAX_CPU:
        raise ValueError("expected a number of cores above zero such as 2, 0.5 or 500m")
    return cores


def parse_duration(value: Any) -> timedelta:
    """
    The length of a duration.

    :param value: days, hours, minutes and seconds in this order, each optional: ``90s``, ``15m``, ``1h30m``, ``2d``
    :raises ValueError: if it is not such a duration, or not above zero
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("a duration needs a unit: expected one such as 90s, 15m, 1h30m or 2d" + _in_seconds(value))
    match = _DURATION.match(value) if isinstance(value, str) and len(value) <= 40 else None  # noqa: PLR2004
    if match is None or not value:
        raise ValueError("expected a duration such as 90s, 15m, 1h30m or 2d")
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta() < length <= _MAX_DURATION:
        raise ValueError("expected a duration above zero and at most 3650d")
    return length


def _in_seconds(value: float) -> str:
    return f"; did you mean '{value}s'?" if isinstance(value, int) and 0 < value < 10**9 else ""


def format_duration(length: timedelta) -> str:
    """The shortest form that :func:`parse_duration` reads back."""
    rest, text = int(length.total_seconds()), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"
