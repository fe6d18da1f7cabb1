# SPDX-License-Identifier: Apache-2.0
"""Runs the experiment once, in a process of its own: Airflow reads its configuration when it is imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The measured facts: tries by scenario, in the order in which they ran."""
    home = tmp_path_factory.mktemp("state-model") / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    with (home / "experiment.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("experiment.py")), str(home)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=500)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        pytest.fail((home / "experiment.log").read_text(errors="replace")[-6000:])
    measured: dict[str, Any] = json.loads((home / "facts.json").read_text())
    return measured
