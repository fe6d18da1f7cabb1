# SPDX-License-Identifier: Apache-2.0
"""
The output of a program, followed beside the wait for its end, wherever it runs.

The verdict on a step never hangs on this. Where the stream breaks or falls silent it is opened again from the last line that was
seen, and what was shown already is left out, so that nothing is lost or doubled; memory does not grow with the output.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_mlops.operators.logs import LineLog

SILENCE = 60.0
"""Seconds without output after which the stream is opened anew: a broken connection and a silent program look the same."""

DRAIN_SILENCE = 10.0
"""The same when the program has ended, and its output only needs to be read."""

DRAIN = 600.0
"""Seconds that the output of a program that has ended may take. What is left then is not shown."""

PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between the end of a stream and the next one."""

_DATE = len("2026-01-31")
_STAMP = len("2026-01-31T12:00:00.123456789Z")


class Shown(NamedTuple):
    """
    Up to where output was shown by somebody else: nothing before is shown again.

    :param stamp: time of the latest line, as it stands before it
    :param lines: how many lines have that time
    """

    stamp: str
    lines: int


class Seen:
    """
    Tells lines that were shown from those that were not: when a stream is read again, and where a daemon that rotates a log repeats it.

    A line is known by its time, to the nanosecond, and its content. The last ones are kept, not the last one alone: standard output and
    standard error are stamped apart, so that their order may differ from that of their times.

    :param before: what somebody else has shown
    """

    def __init__(self, before: Shown | None = None, keep: int = 1000) -> None:
        self._keep = keep
        self._before = before.stamp.encode() if before is not None else b""
        self._last: deque[tuple[bytes, int]] = deque()
        self._known: Counter[tuple[bytes, int]] = Counter()
        self._latest = self._before
        self._at_latest = before.lines if before is not None else 0
        self._skip = 0

    def rewind(self) -> int | None:
        """The stream begins anew: from which second it is needed, since the epoch; ``None`` for all of it."""
        self._skip = self._at_latest
        first = self._last[0][0] if len(self._last) == self._keep else self._before
        return int(datetime.fromisoformat(first[:19].decode() + "+00:00").timestamp()) if first else None

    @property
    def shown(self) -> Shown | None:
        """Up to where all of it is known; ``None`` if nothing is."""
        return Shown(self._latest.decode(), self._at_latest) if self._latest else None

    def is_new(self, stamp: bytes, content: bytes) -> bool:
        """Whether a line has not been shown yet; from now on it has."""
        if stamp < self._before:
            return False
        line = (stamp, hash(content))
        if stamp > self._latest:
            self._latest, self._at_latest, self._skip = stamp, 1, 0
        elif stamp == self._latest and not (line in self._known and content.endswith(b"\n")):
            # The pieces of a long line have one time, and may be alike: they are counted. Whole lines are stamped one by one.
            if self._skip:
                self._skip -= 1
                return False
            self._at_latest += 1
        elif line in self._known or (len(self._last) == self._keep and stamp <= self._last[0][0]):
            # What is repeated comes up to the latest line again.
            self._skip = self._at_latest
            return False
        self._last.append(line)
        self._known[line] += 1
        if len(self._last) > self._keep:
            gone = self._last.popleft()
            self._known[gone] -= 1
            if not self._known[gone]:
                del self._known[gone]
        return True


class Output:
    """
    A program's output on its way into a log, each line once.

    :param lines: where it goes
    :param before: what somebody else has shown
    """

    def __init__(self, lines: LineLog, before: Shown | None = None) -> None:
        self._lines = lines
        self._seen = Seen(before)

    def rewind(self) -> int | None:
        """The stream begins anew: from which second it is needed, since the epoch; ``None`` for all of it."""
        return self._seen.rewind()

    def take(self, frame: bytes) -> bool:
        """Take a line, or a piece of one, that begins with its time; whether it is new and of the program."""
        end = frame.find(b" ", _DATE, _STAMP + 8) if frame[_DATE : _DATE + 1] == b"T" else -1
        is_new = end >= 0 and self._seen.is_new(frame[:end], frame[end + 1 :])
        # A frame that begins with no time comes from something else than the engine, and may come each time.
        if is_new or end < 0:
            self._lines.write(frame[end + 1 :])
        return is_new

    @property
    def shown(self) -> Shown | None:
        """Up to where all of it is known."""
        return self._seen.shown

    def close(self) -> None:
        """Show what is left of the last line."""
        self._lines.close()


def next_pause(pause: float, *, news: bool) -> float:
    """
    Seconds before a stream that has ended is opened again: more and more of them while nothing comes, since whoever ended it may be unable to
    follow an output at all.

    :param pause: the one before
    """
    return PAUSE if news or not pause else min(2 * pause, LONGEST_PAUSE)


class Follower:
    """
    Show a program's output, in a thread of its own. A runtime says how its stream is opened.

    :param lines: where the output goes
    :param log: where is said what keeps it away
    :param before: what somebody else has shown
    """

    def __init__(self, lines: LineLog, log: Any, before: Shown | None = None) -> None:
        self._lines = lines
        self._output = Output(lines, before)
        self._log = log
        self._ended = threading.Event()
        self._given_up = False
        self._stream: Any = None
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="program-log", daemon=True)
        self._thread.start()

    def look_after(self) -> None:
        """Open the stream anew if it has been silent for long. To be called now and then."""
        if time.monotonic() - self._heard > SILENCE:
            self._reopen()

    def finish(self, seconds: float = DRAIN) -> None:
        """Read what is left when the program has ended, as long as something comes."""
        self._ended.set()
        end = time.monotonic() + seconds
        self._heard = time.monotonic()
        reopened = False
        while True:
            self._thread.join(0.5)
            if not self._thread.is_alive():
                return
            now = time.monotonic()
            silent = now - self._heard > DRAIN_SILENCE
            if now > end or (silent and reopened):
                self._log.warning("The rest of the program's output is not shown: it does not come, or takes too long")
                self._give_up()
                return
            if silent:
                reopened = True
                self._reopen()

    def _give_up(self) -> None:
        self._given_up = True
        self._reopen()
        self._thread.join(1)

    def _reopen(self) -> None:
        """Close the stream under the thread that reads it, which then opens it again."""
        self._heard = time.monotonic()
        if self._stream is not None:
            with suppress(Exception):  # it may have ended a moment ago
                self._stream.close()

    def _run(self) -> None:
        told, pause = False, 0.0
        try:
            while not self._given_up:
                before = self._output.shown
                # A stream that was opened after the end and shows nothing new: then everything was shown.
                ended, news, failed = self._ended.is_set(), True, False
                try:
                    news = self._read()
                except Exception as error:  # noqa: BLE001 - whatever breaks the stream, the program is judged by its state
                    failed = True
                    if self._is_for_good(error):
                        if not ended:
                            self._read_otherwise(error)
                        return
                    if not told and not self._given_up:
                        told = True
                        self._log.warning("The program's output is interrupted: %s", error)
                if ended and not news:
                    return
                pause = next_pause(pause, news=self._output.shown != before)
                # With an end to come it is opened again at once, but not one that breaks each time.
                if ended and failed:
                    time.sleep(PAUSE)
                else:
                    self._ended.wait(pause)
        finally:
            self._output.close()

    def _opened(self, since: int | None) -> Iterable[bytes]:
        """
        Open the stream: lines, or pieces of them, that begin with their time.

        :param since: from which second it is needed, since the epoch; ``None`` for all of it
        """
        raise NotImplementedError

    def _is_for_good(self, error: Exception) -> bool:
        """Whether asking again is no use."""
        raise NotImplementedError

    def _read_otherwise(self, error: Exception) -> None:
        """What is left to do where the output cannot be read."""

    def _read(self) -> bool:
        """Show what is new until the stream ends; whether anything was."""
        news = False
        self._stream = self._opened(self._output.rewind())
        for frame in self._stream:
            self._heard = time.monotonic()
            news |= self._output.take(frame)
        return news
