# SPDX-License-Identifier: Apache-2.0
"""
Notice Ctrl-C without taking the signal away from whoever handles it.

A display can say so that a run is being stopped, while Airflow's scheduler stops it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """
    Within, the given function tells whether Ctrl-C was pressed, or SIGTERM sent, since it was last asked.

    Python itself writes the number of each signal that it handles into a pipe. Forked children share the pipe, but do
    not get the terminal's Ctrl-C.
    """
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def pressed() -> bool:
        try:
            return not {signal.SIGINT, signal.SIGTERM}.isdisjoint(os.read(reader, 4096))
        except BlockingIOError:
            return False

    try:
        yield pressed
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
