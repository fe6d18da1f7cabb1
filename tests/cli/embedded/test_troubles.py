# SPDX-License-Identifier: Apache-2.0
"""Runs that cannot go well: each must say why and leave nothing behind."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli.embedded import EmbeddedUnavailable, RunRequest
from airflow_mlops.cli.embedded.runner import run
from airflow_mlops.cli.embedded.runs import record
from tests.cli.embedded.support import TRIVIAL, Runs, is_running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = "import no_such_module_at_all\n"
DEFERRED = """
from datetime import timedelta
from airflow.sdk import DAG, BaseOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

class Wait(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context, event=None):
        return "resumed"

with DAG("tested"):
    Wait(task_id="only")
"""
POOL = """
from airflow.sdk import DAG, task
with DAG("tested"):
    @task(pool="gpu", pool_slots=500)
    def only(): ...
    only()
"""
LIMITED = """
from airflow.sdk import DAG, task
with DAG("tested"):
    @task(max_active_tis_per_dag=0)
    def only(): ...
    only()
"""
STUBBORN = """
import os, signal, time
from pathlib import Path
from airflow.sdk import DAG, task
with DAG("tested"):
    @task
    def only():
        signal.signal(signal.SIGTERM, lambda *_: Path(os.environ["TRACES"], "asked").touch())
        Path(os.environ["TRACES"], "pid").write_text(str(os.getpid()))
        while True:
            time.sleep(0.05)
    only()
"""

needs_airflow = pytest.mark.airflow


@needs_airflow
@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        (BROKEN, {}, "No module named 'no_such_module_at_all'"),
        (
            TRIVIAL.replace("1}", "Param(1, type='integer')}").replace("DAG,", "DAG, Param,"),
            {"conf": {"number": "x"}},
            "number",
        ),
    ],
    ids=["import", "params"],
)
def test_a_dag_that_cannot_run_is_refused_with_the_reason(
    runs: Runs, source: str, options: dict[str, object], text: str
) -> None:
    pytest.importorskip("airflow")
    refused = runs.run(source, **options)
    said = next(line for line in refused.lines if "refused" in line)
    assert said["refused"] == "DagRefused"
    assert text in said["text"]
    assert record(refused.run_dir).state == "refused"


@needs_airflow
def test_a_pool_of_a_deployment_is_there_without_limits(runs: Runs) -> None:
    assert runs.run(POOL).state == "success"


@needs_airflow
def test_a_task_that_a_limit_keeps_is_said_to_wait_until_the_timeout(runs: Runs) -> None:
    stuck = runs.run(LIMITED, timeout=20)
    reasons = [line["reason"] for line in stuck.lines if line.get("state") == "waiting"]
    assert len(reasons) == 1
    assert "a limit of the DAG has kept it" in reasons[0]
    assert stuck.state == "timeout"


@needs_airflow
def test_a_deferred_task_is_resumed(runs: Runs) -> None:
    pytest.importorskip("airflow")
    run = runs.run(DEFERRED)
    assert run.state == "success"
    assert "deferred" in run.states("only")
    assert run.results("returned") == {("only", -1): "resumed"}


@needs_airflow
def test_a_display_that_breaks_stops_the_run_and_is_not_swallowed(runs: Runs, tmp_path: Path) -> None:
    pytest.importorskip("airflow")
    run = runs.run(STUBBORN.replace("signal.signal", "str"), environment={"TRACES": str(tmp_path)}, break_at="running")
    said = next(line for line in run.lines if "refused" in line)
    assert (said["refused"], said["text"]) == ("RuntimeError", "the display broke")
    pid = tmp_path / "pid"
    assert not pid.exists() or not is_running(int(pid.read_text()))


@needs_airflow
def test_a_second_interrupt_kills_a_task_that_does_not_end(runs: Runs, tmp_path: Path) -> None:
    pytest.importorskip("airflow")
    run = runs.start(STUBBORN, environment={"TRACES": str(tmp_path)})
    run.until(lambda line: line.get("state") == "running")
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and bool(pid.read_text()), "the task runs")
    os.killpg(run.process.pid, signal.SIGINT)
    wait_until((tmp_path / "asked").exists, "the task was asked to end")
    assert is_running(int(pid.read_text()))
    os.killpg(run.process.pid, signal.SIGINT)
    run.finish()
    assert run.state == "interrupted"
    assert not is_running(int(pid.read_text()))


def test_a_process_with_threads_is_refused(tmp_path: Path) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="a-display")
    thread.start()
    try:
        with pytest.raises(EmbeddedUnavailable, match="a-display"):
            run(RunRequest(TRIVIAL, "tested", "test"), tmp_path)
    finally:
        done.set()
        thread.join()
