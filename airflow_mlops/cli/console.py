# SPDX-License-Identifier: Apache-2.0
"""How things look on a terminal: one word and colour for each state, sizes and times as people read them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WORDS = {
    None: "waiting",
    "none": "waiting",
    "scheduled": "waiting",
    "queued": "starting",
    "running": "running",
    "restarting": "running",
    "deferred": "running",
    "awaiting_input": "asking",
    "up_for_reschedule": "running",
    "up_for_retry": "retrying",
    "success": "success",
    "failed": "failed",
    "skipped": "skipped",
    "upstream_failed": "not run",
    "removed": "not run",
    "interrupted": "stopped",
    "timeout": "stopped",
}
"""States of tasks and runs as the command line calls them."""

STYLES = {
    "running": "cyan",
    "retrying": "yellow",
    "asking": "yellow",
    "success": "green",
    "failed": "bold red",
    "stopped": "yellow",
}
MARKS = {
    "running": "▸",
    "starting": "▸",
    "retrying": "↻",
    "asking": "?",
    "success": "✓",
    "failed": "✗",
    "stopped": "✗",
    "skipped": "-",
    "not run": "-",
}
PLAIN_MARKS = {"▸": ">", "↻": "~", "✓": "+", "✗": "x", "·": "."}

ENDED = frozenset(("success", "failed", "skipped", "not run", "stopped"))
"""Words of states that a step does not leave."""


def word(state: str | None) -> str:
    """What a state is called here."""
    return WORDS.get(state, state or "waiting")


def style(state_word: str) -> str:
    """The colour of a state."""
    return STYLES.get(state_word, "dim")


def is_live(file: TextIO) -> bool:
    """Whether a display may redraw itself there: a terminal that nobody asked to be plain."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown") or os.environ.get("CI")
    return file.isatty() and not plain


def make_console(file: TextIO | None = None) -> Console:
    """A console on a file, by default standard output."""
    import sys

    from rich.console import Console

    return Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False)


def make_table(*columns: str, right: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """
    A table without a frame.

    :param right: columns that are aligned to the right
    :param whole: columns whose words are not broken over lines
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in whole, overflow="fold"
        )
    return table


def size(count: int | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "?"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000:  # noqa: PLR2004 - the step from one unit to the next
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"  # noqa: PLR2004
        amount /= 1000
    return f"{amount:.1f} PB"


def seconds(value: float | None) -> str:
    """A duration as people read it."""
    if value is None:
        return ""
    if value < 60:  # noqa: PLR2004
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def scalar(value: Any) -> str:
    """A metric or parameter in a few characters."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (int, str)):
        return shortened(str(value), 24)
    return shortened(json.dumps(value, ensure_ascii=False), 24)


def shortened(text: str, limit: int) -> str:
    """A text on one line that is not longer than it may be, with nothing in it that a terminal would obey."""
    text = printable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """A text without control characters: what a program printed must not move the cursor or set the window's title."""
    return "".join(char if char.isprintable() or char == "\t" else " " for char in text)
