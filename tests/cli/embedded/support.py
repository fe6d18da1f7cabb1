# SPDX-License-Identifier: Apache-2.0
"""Embedded runs as their caller sees them: a process, the lines it says, and the folder it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
PATIENCE = 90
"""Seconds for one run; a busy machine takes long to import Airflow."""

TRIVIAL = """
from airflow.sdk import DAG, task
with DAG("tested", params={"number": 1}):
    @task
    def only(): ...
    only()
"""


@dataclass
class Driven:
    """A run that is under way or over."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read what it says up to the first line that fulfils a condition."""
        for line in self.process.stdout or ():
            self.lines.append(json.loads(line))
            if condition(self.lines[-1]):
                return self.lines[-1]
        raise AssertionError(f"the run ended before that: {self.lines}")

    def finish(self) -> Driven:
        """Wait for its end."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            pytest.fail(f"the run did not end within {PATIENCE} s; it said {self.lines}")
        assert not err, err
        self.lines += [json.loads(line) for line in out.splitlines()]
        return self

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return Path(next(line["run_dir"] for line in self.lines if "run_dir" in line))

    @property
    def state(self) -> str:
        """How the run ended."""
        return str(next(line["run"] for line in self.lines if "run" in line))

    def results(self, key: str = "state") -> dict[tuple[str, int], Any]:
        """One thing about each task at the end."""
        return {(line["result"], line["index"]): line[key] for line in self.lines if "result" in line}

    def states(self, task: str) -> list[str]:
        """The states that were seen of a task."""
        return [line["state"] for line in self.lines if line.get("task") == task]


@dataclass(frozen=True)
class Runs:
    """Starts embedded runs with one home."""

    home: Path
    files: Path

    def start(
        self, source: str, dag_id: str = "tested", *, environment: dict[str, str] | None = None, **options: Any
    ) -> Driven:
        """Start a run of a DAG file in a session of its own."""
        file = self.files / f"{time.monotonic_ns()}.py"
        file.write_text(source, encoding="utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)
        clean |= {
            "AIRFLOW_MLOPS_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(cache_folder() / "bytecode"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.embedded.drive", str(file), dag_id, json.dumps(options)],
            env=clean | (environment or {}),
            cwd=self.files,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Driven(process)

    def run(self, source: str, **options: Any) -> Driven:
        """Run a DAG file to its end."""
        return self.start(source, **options).finish()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not only waiting to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
