# SPDX-License-Identifier: Apache-2.0
"""
The output of a program, followed beside the wait for its end, wherever it runs.

The verdict on a step never hangs on this. Where the stream breaks or falls silent it is opened again from the last line that was
seen, and what was shown already is left out, so that nothing is lost or doubled; memory does not grow with the output.
"""

from __future__ import annotations

import threading
import time
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

    :param stamp: time of the last line, as it stands before it
    :param lines: how many lines have that time
    """

    stamp: str
    lines: int


class Seen:
    """
    Tells lines that were shown from those that were not, when a stream is read again.

    The lines of a log have an order, and keep it: what comes up to the last one that was shown is old, and all after it is new, whatever
    times they have. Times alone do not tell: standard output and standard error are stamped apart, a clock may be set back, and a coarse one
    gives several lines the same time.

    :param before: what somebody else has shown
    """

    def __init__(self, before: Shown | None = None) -> None:
        self._last = before.stamp.encode() if before is not None else b""
        self._at_last = before.lines if before is not None else 0
        self._latest = self._last
        self._is_behind = False
        """Whether the stream has still to come to the last line that was shown."""
        self._found = 0
        """Lines of the last one's time that it has come to."""

    def rewind(self) -> int | None:
        """The stream begins anew: from which second it is needed, since the epoch; ``None`` for all of it."""
        self._fall_behind()
        return second_before(self._last) if self._last else None

    @property
    def shown(self) -> Shown | None:
        """Up to where all of it is known; ``None`` if nothing is."""
        return Shown(self._last.decode(), self._at_last) if self._last else None

    def is_new(self, stamp: bytes, content: bytes) -> bool:  # noqa: ARG002 - for logs that say lines twice
        """Whether a line has not been shown yet; from now on it has."""
        if self._is_behind and self._comes_before(stamp):
            return False
        self._at_last = self._at_last + 1 if stamp == self._last else 1
        self._last, self._latest = stamp, max(self._latest, stamp)
        return True

    def _fall_behind(self) -> None:
        self._is_behind, self._found = bool(self._last), 0

    def _comes_before(self, stamp: bytes) -> bool:
        """Whether a line is one up to the last."""
        if stamp > self._latest:
            # The last one is gone from the log.
            self._is_behind = False
        elif stamp == self._last:
            self._found += 1
            self._is_behind = self._found < self._at_last
            return True
        return self._is_behind


def second_before(stamp: bytes) -> int:
    """The second before that of a line, since the epoch: what comes after it may have been stamped a little before it."""
    return int(datetime.fromisoformat(stamp[:19].decode() + "+00:00").timestamp()) - 1


class Output:
    """
    A program's output on its way into a log, each line once.

    :param lines: where it goes
    :param seen: knows what was shown
    """

    def __init__(self, lines: LineLog, seen: Seen) -> None:
        self._lines = lines
        self._seen = seen

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
    :param seen: knows what was shown
    """

    def __init__(self, lines: LineLog, log: Any, seen: Seen) -> None:
        self._lines = lines
        self._output = Output(lines, seen)
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
