# SPDX-License-Identifier: Apache-2.0
"""The output of a Docker container, read again from the daemon's log; of one with a terminal, counted by bytes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from airflow_mlops.operators import log_following

if TYPE_CHECKING:
    from docker import APIClient

    from airflow_mlops.operators.logs import LineLog

_PIECE = 4096
_GONE = (404, 409)
"""What the daemon answers about a container that was removed, or is being removed."""


class SeenOnce(log_following.Seen):
    """
    Leaves out what a daemon says twice in one stream, as it does where it rotates a log: lines from somewhere on, up to the last one again.

    A line is known by its time, to the nanosecond, and its content. The last ones are kept; one that is older than all of them is taken for
    one that is repeated, so that a clock that is set back far hides what is printed until it has come up again.

    :param keep: how many lines are kept
    """

    def __init__(self, keep: int = 1000) -> None:
        super().__init__()
        self._keep = keep
        self._kept: deque[tuple[bytes, int]] = deque()
        self._known: Counter[tuple[bytes, int]] = Counter()

    def rewind(self) -> int | None:
        super().rewind()
        return log_following.second_before(self._kept[0][0]) if len(self._kept) == self._keep else None

    def is_new(self, stamp: bytes, content: bytes) -> bool:
        line = (stamp, hash(content))
        if not self._is_behind and self._is_said_again(line, content):
            self._fall_behind()
        if not super().is_new(stamp, content):
            return False
        self._kept.append(line)
        self._known[line] += 1
        if len(self._kept) > self._keep:
            gone = self._kept.popleft()
            self._known[gone] -= 1
            if not self._known[gone]:
                del self._known[gone]
        return True

    def _is_said_again(self, line: tuple[bytes, int], content: bytes) -> bool:
        if line[0] == self._last:
            # The pieces of a long line have one time, and may be alike.
            return line in self._known and content.endswith(b"\n")
        return line in self._known or (len(self._kept) == self._keep and line[0] <= self._kept[0][0])


class Follower(log_following.Follower):
    """
    Show a container's output.

    :param tty: whether the container has a terminal: then its output is a stream of bytes, and carries no times
    """

    def __init__(self, cli: APIClient, container: str, lines: LineLog, log: Any, *, tty: bool) -> None:
        self._cli = cli
        self._container = container
        self._tty = tty
        self._shown_bytes = 0
        super().__init__(lines, log, SeenOnce())

    def _opened(self, since: int | None) -> Iterable[bytes]:
        stream: Iterable[bytes] = self._cli.logs(
            self._container, stream=True, follow=True, timestamps=True, since=since
        )
        return stream

    def _is_for_good(self, error: Exception) -> bool:
        """The container is gone, or its logging driver keeps nothing."""
        return _not_readable(error) or (isinstance(error, APIError) and error.status_code in _GONE)

    def _read_otherwise(self, error: Exception) -> None:
        if _not_readable(error):
            self._attach()

    def _read(self) -> bool:
        return self._read_terminal() if self._tty else super()._read()

    def _read_terminal(self) -> bool:
        """The same for a terminal's output, which carries no times: from its beginning, less what was shown."""
        news = False
        self._stream = self._cli.logs(self._container, stream=True, follow=True)
        for piece in _by_line(_without(self._stream, self._shown_bytes)):
            news = True
            self._heard = time.monotonic()
            self._shown_bytes += len(piece)
            self._lines.write(piece)
        return news

    def _attach(self) -> None:
        """Show what comes from now on, where the daemon keeps nothing that could be read later."""
        self._stream = self._cli.attach(self._container, stdout=True, stderr=True, stream=True)
        for piece in self._stream:
            self._heard = time.monotonic()
            self._lines.write(piece)


def _not_readable(error: Exception) -> bool:
    return isinstance(error, APIError) and "does not support reading" in str(error.explanation)


def _by_line(stream: Iterator[bytes]) -> Iterator[bytes]:
    """The client gives a terminal's output byte by byte; in pieces that end a line, or are long."""
    piece = bytearray()
    for part in stream:
        piece += part
        if part[-1:] in b"\r\n" or len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _without(stream: Iterator[bytes], count: int) -> Iterator[bytes]:
    """A stream of bytes without its first ones."""
    for piece in stream:
        if count >= len(piece):
            count -= len(piece)
            continue
        yield piece[count:]
        count = 0
