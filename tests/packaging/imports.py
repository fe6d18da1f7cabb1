# SPDX-License-Identifier: Apache-2.0
"""Which of our modules a command imports, with all the processes that it starts, and how long that takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.parts.clean_environment import CleanEnvironment

LIMIT_MS = 50
"""What our being installed may cost a process of Airflow."""


def watched(environment: CleanEnvironment, home: Path, *words: str) -> tuple[set[str], float]:
    """
    Run a command.

    :return: our modules, and the milliseconds that they took with all that was imported for them, in the process where that was most
    """
    report = home / "imports.jsonl"
    report.unlink(missing_ok=True)
    watch = {"PYTHONPATH": str(Path(__file__).with_name("watched")), "WATCHED_IMPORTS": str(report)}
    said = environment.run(home, *words, **watch)
    assert said.code == 0, said.out + said.err
    processes = [json.loads(line) for line in report.read_text().splitlines()]
    assert processes, "no process reported"
    names = {name for process in processes for name in process["names"]}
    return names, max(process["milliseconds"] for process in processes)
