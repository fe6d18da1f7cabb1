# SPDX-License-Identifier: Apache-2.0
"""The command line as tests call it: in this process where nothing runs, in one of its own where a pipeline does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_mlops.cli.main import main
from tests.parts.cache import cache_folder

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds for one command; a machine that is busy with other tests takes long to import Airflow."""


OWN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from airflow_mlops.cli.main import main; sys.exit(main())"
)
"""A command as a shell starts it: its terminal is the one that Ctrl-C is pressed on, and that hangs up on it when it is closed."""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Said:
    """Run a command in this process."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


@dataclass(frozen=True)
class Terminal:
    """A user of the command line, with a home of their own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The user's environment."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)
        temporary = self.home / "tmp"
        temporary.mkdir(exist_ok=True)
        return clean | {
            "HOME": str(self.home),
            "TMPDIR": str(temporary),
            "AIRFLOW_MLOPS_HOME": str(self.home / "mlops"),
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(cache_folder() / "bytecode"),
            "COLUMNS": "120",
        }

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        return subprocess.Popen(
            [sys.executable, "-m", "airflow_mlops", *map(str, words)],
            env=self.environment | environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str | Path, **environment: str) -> Said:
        """Run a command to its end."""
        return finish(self.start(*words, **environment))


def finish(process: subprocess.Popen[str]) -> Said:
    """Wait for a command; one that does not end is killed, and fails the test."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"the command did not end within {PATIENCE} s; it printed:\n{out}\n{err}")
    return Said(process.returncode, out, err)


@contextmanager
def at_terminal(user: Terminal, *words: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command whose input and output are a terminal, and the other end of that; what is not read from there fills up."""
    controller, terminal = pty.openpty()
    environment = {name: value for name, value in user.environment.items() if name != "CI"}
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *map(str, words)],
        env=environment | {"TERM": "xterm"},
        cwd=user.home,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        yield process, controller
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        with suppress(OSError):
            os.close(controller)


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """What a terminal shows, up to some words."""
    seen = b""
    while wanted not in seen:
        if not select.select([descriptor], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing was shown for {PATIENCE} s; before that: {seen!r}")
        try:
            seen += os.read(descriptor, 4096)
        except OSError:
            raise AssertionError(f"the program ended; it showed {seen!r}") from None
    return seen


def read_rest(descriptor: int) -> bytes:
    """What a terminal shows until whoever writes to it ends."""
    seen = b""
    with suppress(OSError):
        while select.select([descriptor], [], [], PATIENCE)[0] and (read := os.read(descriptor, 4096)):
            seen += read
    return seen
