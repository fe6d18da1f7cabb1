# SPDX-License-Identifier: Apache-2.0
"""
A program's output as lines of the task log: in bounded memory, without secrets, and without a way to pose as Airflow.

What comes out of a container is hostile: a line may have no end, hold terminal commands, or look like one of the markers by which
Airflow's UI folds groups of lines.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterable, Sequence

LINE_LIMIT = 16 * 1024
"""Characters of one log line; a longer one is shown in pieces."""

SHORTEST_SECRET = 4
"""Characters: masking shorter values would make the log unreadable and hide nothing."""

PROGRESS_INTERVAL = 5.0
"""Seconds between two lines of a progress bar that are shown; the last one is shown in any case."""

_HIDDEN = "***"
# Colours (CSI … m) are left to those who show the log; every other sequence, and what would be part of one, is taken out.
_COLOUR = r"\x1b\[[0-9;]*m"
_SEQUENCE = re.compile(
    rf"(?P<colour>{_COLOUR})|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
_MARKER = re.compile(rf"^((?:\s|{_COLOUR})*)(::(?:end)?group::|##\[(?:end)?group\])", re.IGNORECASE)


class LineLog:
    """
    Cut a stream of bytes into log lines.

    A line ends at a newline. What a carriage return would overwrite, as progress bars do, is shown every few seconds.

    :param emit: called with each line
    :param secrets: values that are not shown, the longest first
    :param clock: seconds, of which differences count
    """

    def __init__(
        self, emit: Callable[[str], None], secrets: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._secrets = secrets
        self._longest = max(map(len, secrets), default=0)
        self._clock = clock
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._shown_progress = -PROGRESS_INTERVAL
        self._overwritten = ""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        *lines, rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        for line in lines:
            self._line(line)
        # The last carriage return may be half of a line's end.
        if "\r" in rest[:-1]:
            progress, rest = rest[:-1].rsplit("\r", 1)[0], rest[rest[:-1].rindex("\r") + 1 :]
            self._progress(progress)
        self._rest = self._cut(rest)

    def close(self) -> None:
        """Show what is left when the stream has ended."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        if rest or self._overwritten:
            self._line(rest)

    def _line(self, line: str) -> None:
        """Show a whole line: what is left of it on a terminal."""
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]
        if not shown and self._overwritten:
            shown = self._overwritten
        self._overwritten = ""
        self._show(masked(shown, self._secrets))

    def _progress(self, text: str) -> None:
        """Show what is about to be overwritten, unless something of the kind was shown a moment ago."""
        text = text.rsplit("\r", 1)[-1][-LINE_LIMIT:]
        if not text:
            return
        now = self._clock()
        if now - self._shown_progress < PROGRESS_INTERVAL:
            self._overwritten = text
            return
        self._shown_progress, self._overwritten = now, ""
        self._show(masked(text, self._secrets))

    def _cut(self, rest: str) -> str:
        """Show the pieces of a line that has become too long; what may be the start of a secret stays."""
        if len(rest) <= LINE_LIMIT + self._longest:
            return rest
        rest, start = masked(rest, self._secrets), 0
        while len(rest) - start > LINE_LIMIT + self._longest:
            self._show(rest[start : start + LINE_LIMIT])
            start += LINE_LIMIT
        return rest[start:]

    def _show(self, line: str) -> None:
        shown = _harmless(line).rstrip()
        for start in range(0, max(len(shown), 1), LINE_LIMIT):
            self._emit(_MARKER.sub(r"\1 \2", shown[start : start + LINE_LIMIT]))


def hidden(secrets: Iterable[str]) -> list[str]:
    """What no log may show: each secret, and each line of those that have several; the longest first."""
    values = {value for secret in secrets for value in (secret, *secret.splitlines()) if len(value) >= SHORTEST_SECRET}
    return sorted(values, key=len, reverse=True)


def masked(text: str, secrets: Sequence[str]) -> str:
    """
    A text without secrets.

    :param secrets: the longest first
    """
    for value in secrets:
        if value in text:
            text = text.replace(value, _HIDDEN)
    return text


def _harmless(line: str) -> str:
    """A line that a terminal or a browser can be given."""
    if "\x1b" in line:
        line = _SEQUENCE.sub(lambda match: match["colour"] or "", line)
    return _CONTROL.sub("", line)
