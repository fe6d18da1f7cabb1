# SPDX-License-Identifier: Apache-2.0
"""
Where the time of a run goes, for whoever wants to make it faster: ``AIRFLOW_MLOPS_TIMINGS=1`` writes ``timings.json``
into the run's folder.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "AIRFLOW_MLOPS_TIMINGS"


class Timings:
    """A stopwatch with named laps, in seconds."""

    def __init__(self) -> None:
        self._started = self._lap = time.monotonic()
        self._cpu = time.process_time()
        self._phases: dict[str, float] = {"cpu_before": round(self._cpu, 3)}

    def lap(self, phase: str) -> None:
        """End a phase that began where the one before it ended."""
        now = time.monotonic()
        self._phases[phase] = round(now - self._lap, 3)
        self._lap = now

    def write(self, folder: Path) -> None:
        """Write what was measured, if it was asked for."""
        if not os.environ.get(VARIABLE):
            return
        total = {"total": round(time.monotonic() - self._started, 3), "cpu": round(time.process_time() - self._cpu, 3)}
        (folder / "timings.json").write_text(json.dumps({**self._phases, **total}, indent=2) + "\n", encoding="utf-8")
