# SPDX-License-Identifier: Apache-2.0
"""Programs that lost their worker: known by the seal that each was started with, which its environment names."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

_KILLED_WITHIN = 5.0


def this_process() -> str:
    """A name of this process that no other one ever has: host, process id, and when it was started."""
    import psutil

    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def may_be_alive(name: str) -> bool:
    """Whether a process of that name may run. Of another host's nobody here can tell."""
    import psutil

    host, _, rest = name.partition("/")
    pid, _, started = rest.partition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return True
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except (psutil.Error, OverflowError):
        return False


def programs() -> dict[int, str]:
    """Process ids of the programs of attempts on this machine, with the path of the seal that each was started with."""
    import psutil

    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if seal := process.environ().get("MLOPS_STEP_JSON"):
                found[process.pid] = seal
    return found


def kill_programs(folder: Path) -> list[int]:
    """
    Kill every process that belongs to an attempt whose scratch folder is, or lies in, a folder; its children inherit what they are known by.

    Looked for until none is found: one that was being forked at the first look is seen at the second, and a process is gone some time after its
    signal. What the kernel keeps in a call for longer than five seconds is given up, with its signal pending.

    :return: their process ids
    """
    reached: set[int] = set()
    until = time.monotonic() + _KILLED_WITHIN
    while (found := _signal(folder, signal.SIGKILL)) and time.monotonic() < until:
        reached.update(found)
        time.sleep(0.02)
    return sorted(reached)


def end_programs(folder: Path, grace: float) -> None:
    """
    The same, but they are asked first.

    :param grace: seconds until they are killed
    """
    import psutil

    asked = []
    for number in _signal(folder, signal.SIGTERM):
        with suppress(psutil.Error):
            asked.append(psutil.Process(number))
    psutil.wait_procs(asked, timeout=grace)
    kill_programs(folder)


def _signal(folder: Path, number: int) -> list[int]:
    import psutil

    reached = []
    for pid, seal in programs().items():
        if seal.startswith(f"{folder}{os.sep}"):
            with suppress(psutil.Error):
                psutil.Process(pid).send_signal(number)
                reached.append(pid)
    return reached
