# SPDX-License-Identifier: Apache-2.0
"""What becomes of a step whose Docker daemon is restarted or killed, or has no space left: with a daemon of the test's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag
    from tests.parts.private_daemon import PrivateDaemon

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import DockerContainerOperator
with DAG("own", schedule=None) as dag:
    DockerContainerOperator(task_id="step", image="mlops-busybox:1", command=["sh", "-c", PROGRAM], outputs={"n": "integer"},
        retry_delay=timedelta(0), network_mode="none", infra_retries=RETRIES, volumes=[{"source": FOLDER, "target": FOLDER}])
"""
FIRST_WAITS = (
    "echo ran >> ran; if [ $(wc -l < ran) = 1 ]; then n=0; until [ -e go ] || [ $n = 600 ]; do sleep 0.1; n=$((n+1)); done; fi; "
    "wc -l < ran > $MLOPS_OUTPUT_N"
)
"""The first container ends when it may, or after a minute; one that follows ends at once."""


class Step:
    """A step on the private daemon."""

    def __init__(self, run_dag: RunDag, daemon: PrivateDaemon, folder: Path) -> None:
        self.daemon, self.folder = daemon, folder
        self._run_dag = run_dag
        self._pool = ThreadPoolExecutor(1)

    def start(self, program: str = FIRST_WAITS, *, retries: int = 1, **settings: str) -> Future[DagResult]:
        text = DAG.replace("PROGRAM", repr(f"cd {self.folder}; {program}")).replace("FOLDER", repr(str(self.folder)))
        env = {
            "DOCKER_HOST": self.daemon.url,
            "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(self.folder),
            "AIRFLOW__MLOPS__STORE": f"file://{self.folder}/store",
            "AIRFLOW__MLOPS__WORK_DIR": str(self.folder / "work"),
            **{f"AIRFLOW__MLOPS__{name.upper()}": value for name, value in settings.items()},
        }
        return self._pool.submit(self._run_dag, text.replace("RETRIES", str(retries)), env=env)

    def running(self, **settings: str) -> Future[DagResult]:
        """Start it, and wait until its program runs."""
        future = self.start(**settings)
        until(lambda: (self.folder / "ran").exists() or future.done())
        return future

    def nothing_is_left(self) -> bool:
        return self.daemon.containers() == [] and [*(self.folder / "work").iterdir()] == []


def until(holds: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


@pytest.fixture
def step(run_dag: RunDag, private_daemon: PrivateDaemon, tmp_path: Path) -> Step:
    return Step(run_dag, private_daemon, tmp_path)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_daemon_that_is_restarted_takes_the_container_along_and_the_retry_runs_it_again(step: Step, end: str) -> None:
    future = step.running()
    getattr(step.daemon, end)()
    step.daemon.start()
    result = future.result()
    assert result.tasks == {"step": "success"}, result.log[-6000:]
    assert result.xcoms["step"]["parameters"] == {"n": 2}
    assert "infrastructure: step 'step'" in result.log
    assert step.nothing_is_left()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_daemon_that_is_restarted_with_live_restore_costs_nothing(step: Step, end: str) -> None:
    step.daemon.stop()
    step.daemon.start("--live-restore")
    future = step.running(retries=0)
    getattr(step.daemon, end)()
    (step.folder / "go").touch()  # it may end while nobody looks
    step.daemon.start("--live-restore")
    result = future.result()
    assert result.tasks == {"step": "success"}, result.log[-6000:]
    assert result.xcoms["step"]["parameters"] == {"n": 1}
    assert step.nothing_is_left()


@pytest.mark.parametrize("transfer", ["bind", "volume"])
def test_a_daemon_without_space_is_an_infrastructure_failure_and_leaves_nothing(step: Step, transfer: str) -> None:
    filler = step.daemon.data / "filler"
    filler.write_bytes(b"x" * (step.daemon.free() - (1 << 20)))
    failed = step.start(retries=0, docker_transfer=transfer).result()
    assert failed.tasks == {"step": "failed"}
    assert "infrastructure: step 'step'" in failed.log
    assert "no space left on device" in failed.log
    assert step.nothing_is_left()
    filler.unlink()
    (step.folder / "go").touch()
    result = step.start(retries=0, docker_transfer=transfer).result()
    assert result.tasks == {"step": "success"}, result.log[-6000:]
    assert step.nothing_is_left()


def test_a_disk_that_is_full_while_the_program_runs_is_the_programs_to_judge(step: Step) -> None:
    # Outputs lie on the daemon's disk here, as does the log: what is printed meanwhile is lost, and nothing else.
    fill = "dd if=/dev/zero of=$MLOPS_OUTPUT_N/../filler bs=1M 2>/dev/null"
    careless = step.start(f"mkdir -p $MLOPS_OUTPUT_N; {fill} || exit 28", docker_transfer="volume").result()
    assert careless.tasks == {"step": "failed"}
    assert "user-code: step 'step': its program ended with exit code 28" in careless.log
    assert step.nothing_is_left()
    careful = step.start(
        "echo before; dd if=/dev/zero of=$HOME/filler bs=1M 2>/dev/null; seq 9999; rm $HOME/filler; echo after; echo 7 > $MLOPS_OUTPUT_N",
        docker_transfer="volume",
    ).result()
    assert careful.tasks == {"step": "success"}, careful.log[-6000:]
    assert careful.xcoms["step"]["parameters"] == {"n": 7}
    assert "before" in careful.log
    assert step.nothing_is_left()
