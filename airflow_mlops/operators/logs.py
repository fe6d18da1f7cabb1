# SPDX-License-Identifier: Apache-2.0
"""A program's output as lines of the task log, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Callable

LINE_LIMIT = 16 * 1024
"""Characters of one log line; a longer one is shown in pieces."""


class LineLog:
    """
    Cut a stream of bytes into log lines.

    A line ends at a newline or at a carriage return, so that the steps of a progress bar are seen as they come; of several carriage returns
    in one chunk the last is shown.

    :param emit: called with each line
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._after_return = False

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        text = self._rest + self._decoder.decode(chunk)
        if self._after_return and text:
            # The line that ended in this carriage return was shown; a newline behind it is not a line of its own.
            text = text.removeprefix("\n")
            self._after_return = False
        *lines, rest = text.split("\n")
        for line in lines:
            self._show(line)
        if "\r" in rest:
            progress, rest = rest.rsplit("\r", 1)
            self._show(progress)
            self._after_return = not rest
        while len(rest) > LINE_LIMIT:
            self._show(rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        self._rest = rest

    def close(self) -> None:
        """Show what is left when the stream has ended."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        if rest:
            self._show(rest)

    def _show(self, line: str) -> None:
        shown = line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
        for start in range(0, max(len(shown), 1), LINE_LIMIT):
            self._emit(shown[start : start + LINE_LIMIT])
