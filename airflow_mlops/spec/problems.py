# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a spec, and where: every problem of a file at once, at most a screenful."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SHOWN = 20
"""Problems shown in full; the rest is counted, so that a broken file does not bury the reader."""

MAX_LISTED = 12
"""Names listed as what was expected."""

MAX_COMPARED = 500
"""Names that are compared with a wrong one."""

MAX_MESSAGE = 600
"""Characters of one message: whatever a file holds, a problem stays readable."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One thing that is wrong.

    :param line: counted from one; zero when the file as a whole is meant
    :param column: counted from one, in characters
    """

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class SpecError(ValueError):
    """
    A spec cannot be used.

    :param problems: everything that is wrong with it; kept in the order of the file
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__(render_problems(self.problems))


def render_problems(problems: tuple[Problem, ...]) -> str:
    """Problems as lines of text, bounded."""
    lines = [str(problem) for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        lines.append(f"… and {len(problems) - MAX_SHOWN} more problems")
    return "\n".join(lines)


def one_of(names: Iterable[str]) -> str:
    """Names as what was expected, in their own order, bounded."""
    listed = list(names)
    if not listed:
        return "none, since there are none"
    if len(listed) > MAX_LISTED:
        return f"one of {', '.join(listed[:MAX_LISTED])}, … ({len(listed)} in all)"
    return f"one of {', '.join(listed)}" if len(listed) > 1 else listed[0]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A tail for a message that names the nearest of some names, or nothing."""
    candidates = islice((item for item in names if item != name), MAX_COMPARED)
    near = get_close_matches(name[:80], list(candidates), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def shorten(message: str) -> str:
    """A message on one line, bounded."""
    text = "".join(char if char.isprintable() else " " for char in message)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
