# SPDX-License-Identifier: Apache-2.0
"""
How the lines of a curve fit into a picture, whoever draws it: which part of an axis a number is at, and fewer points where there are too many.

Numbers are any that are finite, so their differences need not be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Extent:
    """
    What an axis reaches over.

    :param low: its start
    :param high: its end, which is larger
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Extent:
        """The extent of some numbers; one number, or none, is in the middle."""
        found = [float(value) for value in values] or [0.0]
        low, high = min(found), max(found)
        if low == high:
            room = abs(low) / 2 or 0.5
            low, high = max(low - room, -_LARGEST), min(high + room, _LARGEST)
        return cls(low, high)

    def part(self, value: float) -> float:
        """Where a number is: 0 at the start, 1 at the end."""
        half = self.high / 2 - self.low / 2  # the whole may be too large for a number
        return min(1.0, max(0.0, (value / 2 - self.low / 2) / half)) if half else 0.5

    def at(self, part: float) -> float:
        """The number at a part of the way."""
        return self.low * (1 - part) + self.high * part


def thinned(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """
    No more points than a picture needs, in their order. Of each stretch the lowest and the highest stay, so that no peak is lost.

    :param most: how many may be left
    """
    if len(points) <= most:
        return points
    stretches = max(1, most // 2 - 1)
    kept = [points[0]]
    for number in range(stretches):
        stretch = range(len(points) * number // stretches, len(points) * (number + 1) // stretches)
        low = min(stretch, key=lambda at: points[at][1])
        high = max(stretch, key=lambda at: points[at][1])
        kept += [points[at] for at in sorted({low, high})]
    return [*kept, points[-1]]
