# SPDX-License-Identifier: Apache-2.0
"""
The terminal, kept for the user interface while everything else that writes to standard output and error goes to a file.

Airflow logs from the scheduler, from supervisors and from forked tasks, by several libraries that each hold file
descriptors 1 and 2 in their own way. Moving the descriptors themselves catches all of it, and children inherit the
move.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_kept: dict[str, TextIO] = {}


def terminal() -> TextIO:
    """
    Standard output as it was when this was first called, however often it is redirected later.

    Every write goes out at once: text left in a buffer would be written again by each forked child.
    """
    if "stdout" not in _kept:
        sys.stdout.flush()
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        # a number that exec'd children do not inherit, so that no step can write to the terminal behind the user
        # interface
        _kept["stdout"] = os.fdopen(os.dup(1), "w", buffering=1, encoding=encoding, errors="replace")
        _kept["stdout"].reconfigure(write_through=True)  # type: ignore[attr-defined]
    return _kept["stdout"]


@contextmanager
def redirected(log: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a file, of this process and of all it starts, and put them back afterwards."""
    terminal()
    _flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        _flush()
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
