# SPDX-License-Identifier: Apache-2.0
"""
Servers that tests start: awaited by asking them, ended by process id, with the end of their log in the error if they
die early.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.parts.requirement import Unavailable

LOG_TAIL = 2000
"""Characters of a server's log that an error shows."""


def start_server(
    command: Sequence[str],
    log: Path,
    answers: Callable[[], bool],
    *,
    seconds: float,
    env: Mapping[str, str] | None = None,
) -> int:
    """
    Start a server in a session of its own and wait until it answers; it outlives this process unless it is stopped.

    :param answers: asks the server once, returns False while it is not there yet
    :param seconds: how long to wait for it
    :return: its process id
    :raises Unavailable: it ended or did not answer in time; it does not run any more
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )
    deadline = time.monotonic() + seconds
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            state = (
                f"did not answer within {seconds:g} s"
                if process.poll() is None
                else f"ended with code {process.returncode}"
            )
            stop_server(process.pid)
            raise Unavailable(f"{command[0]} {state}; the end of {log}:\n{log.read_text(errors='replace')[-LOG_TAIL:]}")
        time.sleep(0.05)
    return process.pid


def is_alive(process: psutil.Process | int) -> bool:
    """Whether a process runs: one that has ended stays until somebody asks for its exit code."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return bool(found.is_running() and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop_server(pid: int, seconds: float = 20) -> None:
    """End a process by its id, first politely; return when it is gone."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not is_running(pid):
                return
            time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; a child that has ended is reaped on the way."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass  # somebody else's child, for instance of an earlier test session
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def mounts_below(folder: Path) -> list[str]:
    """What is mounted in a folder, the innermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return sorted((line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")), reverse=True)
