# SPDX-License-Identifier: Apache-2.0
"""Runs the experiment once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parts.airflow_home import run_in_home


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The measured facts: tries by scenario, in the order in which they ran."""
    home = tmp_path_factory.mktemp("state-model") / "home"
    run_in_home(Path(__file__).with_name("experiment.py"), home)
    measured: dict[str, Any] = json.loads((home / "facts.json").read_text())
    return measured
