# SPDX-License-Identifier: Apache-2.0
"""The folders of runs, without running anything: a lock tells what is alive, and what is broken hides nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli.embedded import instance, list_runs, new_run_directory, remove_run, task_logs
from airflow_mlops.cli.embedded.home import home
from airflow_mlops.cli.embedded.runs import release
from tests.cli.embedded.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(tmp_path / "home"))


def test_the_home_is_for_its_user_alone() -> None:
    assert home().stat().st_mode & 0o777 == 0o700
    assert new_run_directory("x").stat().st_mode & 0o777 == 0o700


def test_a_user_has_one_instance_id() -> None:
    assert instance() == instance()
    assert instance().startswith("local-")


def test_a_live_run_is_not_removed() -> None:
    folder = new_run_directory("../churn model", spec="churn.yaml")
    assert folder.parent == home() / "runs"
    (run,) = list_runs()
    assert (run.name, run.spec, run.state, run.alive) == ("../churn model", "churn.yaml", "preparing", True)
    assert not remove_run(folder)
    release(folder)
    assert remove_run(folder)
    assert list_runs() == []


def test_another_process_sees_that_a_run_is_alive_and_that_a_killed_one_is_not() -> None:
    folder = new_run_directory("churn")
    look = "from airflow_mlops.cli.embedded import list_runs; print([(run.state, run.alive) for run in list_runs()])"
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=ROOT)
    assert seen.stdout.strip() == "[('preparing', True)]"
    release(folder)
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=ROOT)
    assert seen.stdout.strip() == "[('killed', False)]"


def test_a_broken_record_does_not_hide_other_runs() -> None:
    broken, good = new_run_directory("broken"), new_run_directory("good")
    (broken / "run.json").write_text("{")
    release(broken)
    assert {run.path: run.state for run in list_runs()} == {broken: "error", good: "preparing"}


def test_logs_are_found_of_plain_and_of_mapped_tasks() -> None:
    folder = new_run_directory("churn")
    plain = folder / "logs/dag_id=churn/run_id=r/task_id=sweep.fit/attempt=2.log"
    mapped = folder / "logs/dag_id=churn/run_id=r/task_id=score/map_index=0/attempt=1.log"
    for file in (plain, mapped):
        file.parent.mkdir(parents=True)
        file.touch()
    assert task_logs(folder) == [("score", 0, 1, mapped), ("sweep.fit", -1, 2, plain)]
