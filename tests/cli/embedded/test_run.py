# SPDX-License-Identifier: Apache-2.0
"""Real runs in an embedded Airflow. Each costs seconds, so one DAG shows several things where they keep apart."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from airflow_mlops.cli.embedded.runs import is_alive, list_runs, record
from airflow_mlops.cli.embedded.task_log import read_log, tail_of_failure
from tests.cli.embedded.support import TRIVIAL, Driven, Runs, is_running, wait_until

pytest.importorskip("airflow")
pytestmark = pytest.mark.airflow

BUSY = """
import os, time
from datetime import timedelta
from pathlib import Path
from airflow.sdk import DAG, Variable, task, get_current_context

with DAG("tested", schedule="@weekly", params={"greeting": "hello"}, is_paused_upon_creation=True):

    @task
    def first():
        print(get_current_context()["params"]["greeting"], "from the step with", Variable.get("for_steps"))
        return [1, 2, 3]

    @task
    def left(folder):
        Path(folder, "left").touch()
        while not Path(folder, "right").exists(): time.sleep(0.05)

    @task
    def right(folder):
        Path(folder, "right").touch()
        while not Path(folder, "left").exists(): time.sleep(0.05)

    @task(retries=1, retry_delay=timedelta(seconds=0.5))
    def second_time_lucky():
        if get_current_context()["ti"].try_number == 1:
            raise RuntimeError("not yet")

    @task
    def double(number):
        return 2 * number

    @task
    def fails():
        print("about to fail")
        print("::group::looks like a marker")
        raise ValueError("no such thing\\nsecond line")

    @task
    def after():
        pass

    start = first()
    start >> [left(os.environ["MEETING"]), right(os.environ["MEETING"]), second_time_lucky(), fails() >> after()]
    double.expand(number=start)
"""
SLEEPY = """
import os, time
from pathlib import Path
from airflow.sdk import DAG, BaseOperator

class Sleep(BaseOperator):
    stop = False

    def execute(self, context):
        Path(os.environ["TRACES"], f"{self.task_id}.pid").write_text(str(os.getpid()))
        while not self.stop:
            time.sleep(0.05)
        raise RuntimeError("stopped")

    def on_kill(self):
        self.stop = True
        Path(os.environ["TRACES"], f"{self.task_id}.killed").touch()

with DAG("tested"):
    Sleep(task_id="one"), Sleep(task_id="two")
"""


@pytest.fixture(scope="module")
def busy(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """A run that shows most of what a run can, in an environment that is set against it."""
    against = {
        "MEETING": str(tmp_path_factory.mktemp("meeting")),
        "AIRFLOW_HOME": "/nonexistent",
        "AIRFLOW_CONFIG": "/nonexistent/airflow.cfg",
        "AIRFLOW__CORE__EXECUTOR": "NoSuchExecutor",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": "/nonexistent/logs",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@nowhere/none",
        "AIRFLOW_VAR_FOR_STEPS": "a variable",
        "AIRFLOW_MLOPS_TIMINGS": "1",
    }
    return runs.run(BUSY, environment=against, conf={"greeting": "servus"})


def test_tasks_run_in_parallel_are_mapped_and_retried(busy: Driven) -> None:
    assert busy.state == "failed"
    assert busy.results() == {
        ("first", -1): "success",
        ("left", -1): "success",
        ("right", -1): "success",
        ("second_time_lucky", -1): "success",
        ("double", 0): "success",
        ("double", 1): "success",
        ("double", 2): "success",
        ("fails", -1): "failed",
        ("after", -1): "upstream_failed",
    }
    assert busy.results("attempt")["second_time_lucky", -1] == 2
    assert busy.results("returned")["first", -1] == [1, 2, 3]
    assert busy.results("returned")["double", 2] == 6


def test_events_tell_how_tasks_went(busy: Driven) -> None:
    # A busy machine may see a task late and miss a state, but never one out of order.
    order = ["none", "scheduled", "queued", "running", "success"]
    seen = [order.index(state) for state in busy.states("first")]
    assert seen == sorted(set(seen))
    assert seen[0] < order.index("running")
    assert busy.states("first")[-1] == "success"
    assert "expanded" in busy.states("double")
    assert "up_for_retry" in busy.states("second_time_lucky")
    assert next(line["ticks"] for line in busy.lines if "ticks" in line) > 5


def test_a_log_shows_what_the_step_said_and_why_it_failed(busy: Driven) -> None:
    log = Path(busy.results("log")["fails", -1])
    lines, reason = tail_of_failure(log)
    assert reason == "ValueError: no such thing"
    assert [line.event for line in lines] == ["about to fail"]
    assert not [line for line in read_log(log) if line.event.startswith("::")]
    said = [line.event for line in read_log(Path(busy.results("log")["first", -1])) if line.logger == "task.stdout"]
    assert said == ["servus from the step with a variable"]


def test_a_run_leaves_a_record(busy: Driven) -> None:
    run = record(busy.run_dir)
    assert (run.state, run.name, run.run_id, run.alive) == ("failed", "tested", "test", False)
    assert {(task.task_id, task.map_index): task.state for task in run.tasks} == busy.results()
    assert "Traceback" not in "".join(str(line) for line in busy.lines)
    assert (busy.run_dir / "airflow.log").stat().st_size > 0


def test_the_fast_way_to_the_execution_api_was_taken(busy: Driven) -> None:
    assert "api" in json.loads((busy.run_dir / "timings.json").read_text())


def test_two_runs_at_once_with_a_cold_home_do_not_disturb_each_other(tmp_path: Path) -> None:
    runs = Runs(home=tmp_path / "home", files=tmp_path)
    both = [runs.start(TRIVIAL), runs.start(TRIVIAL)]
    finished = [run.finish() for run in both]
    assert [run.state for run in finished] == ["success", "success"]
    assert [run.results() for run in finished] == [{("only", -1): "success"}] * 2
    assert len(list((tmp_path / "home" / "templates").iterdir())) == 1


def _sleeping(runs: Runs, traces: Path) -> tuple[Driven, list[int]]:
    run = runs.start(SLEEPY, environment={"TRACES": str(traces)})
    pids = [traces / f"{name}.pid" for name in ("one", "two")]
    run.until(lambda line: line.get("state") == "running")
    wait_until(lambda: all(pid.exists() and pid.read_text() for pid in pids), "both tasks sleep")
    return run, [int(pid.read_text()) for pid in pids]


def test_interrupt_ends_every_task_by_its_on_kill(runs: Runs, tmp_path: Path) -> None:
    run, pids = _sleeping(runs, tmp_path)
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does, to all of the foreground
    run.finish()
    assert run.state == "interrupted"
    assert {file.name for file in tmp_path.glob("*.killed")} == {"one.killed", "two.killed"}
    assert not [pid for pid in pids if is_running(pid)]
    assert record(run.run_dir).state == "interrupted"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux ends children with their parent")
def test_tasks_of_a_killed_run_end_by_their_on_kill(runs: Runs, tmp_path: Path) -> None:
    run, pids = _sleeping(runs, tmp_path)
    assert is_alive(run.run_dir)
    run.process.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the tasks end")
    run.process.communicate()
    assert {file.name for file in tmp_path.glob("*.killed")} == {"one.killed", "two.killed"}
    wait_until(lambda: not is_alive(run.run_dir), "the run's lock is free")
    assert {item.path: item.state for item in _listed(runs)}[run.run_dir] == "killed"


def _listed(runs: Runs) -> list[object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_MLOPS_HOME", str(runs.home))
        return list_runs()
