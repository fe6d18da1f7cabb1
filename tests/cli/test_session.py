# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields

import pytest

pytest.importorskip("airflow")

from airflow_mlops.cli.session import PREFIX, run_settings
from airflow_mlops.operators.settings import Settings


def test_all_that_a_deployment_opens_one_by_one_is_open_in_a_run_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = [item.name for item in fields(Settings) if item.name.startswith("allowed_") and item.default == ()]
    assert len(closed) > 7
    settings = run_settings(None)
    assert [name for name in closed if settings.get(f"{PREFIX}{name.upper()}") not in ("*", "/")] == []
    monkeypatch.setenv(f"{PREFIX}ALLOWED_NAMESPACES", "ml")
    assert run_settings(None)[f"{PREFIX}ALLOWED_NAMESPACES"] == "ml"
