# SPDX-License-Identifier: Apache-2.0
"""
Lost workers in an Airflow as people run it: its own scheduler, API server and DAG processor, and its LocalExecutor.

The other tests of lost workers have an executor that tells at once when a supervisor has died, which LocalExecutor does not: the scheduler finds
out when the heartbeats have been missing for long enough.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.parts.airflow_home import airflow_settings
from tests.parts.images import ROOT
from tests.parts.processes import is_alive, start_server, stop_server
from tests.parts.s3 import free_port

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

DAGS = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import DockerContainerOperator
def dag(name):
    wait = f"n=0; until [ -e go-{name} ] || [ $n = 300 ]; do sleep 1; n=$((n+1)); done"
    program = f"cd FOLDER; echo ran >> ran-{name}; {wait}; wc -l < ran-{name} > $MLOPS_OUTPUT_N"
    with DAG(name, schedule=None) as made:
        DockerContainerOperator(task_id="step", image="mlops-busybox:1", command=["sh", "-c", program], outputs={"n": "integer"},
            retry_delay=timedelta(0), volumes=[{"source": "FOLDER", "target": "FOLDER"}])
    return made
worker, supervisor = dag("worker"), dag("supervisor")
"""


class Installation:
    """An Airflow in a folder, with all of its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.pids: dict[str, int] = {}
        self.environment = {
            **os.environ,
            **airflow_settings(folder),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db?timeout=60",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(folder),
            "AIRFLOW__MLOPS__WORK_DIR": str(folder / "work"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> None:
        """Start everything, and wait until the DAGs are known."""
        (self.folder / "dags" / "lost.py").write_text(DAGS.replace("FOLDER", str(self.folder)))
        for name, answers in (
            ("api-server", self._answers),
            ("dag-processor", lambda: self.ask("select count(*) from dag where not is_stale") == [(2,)]),
            ("scheduler", lambda: self.ask("select count(*) from job where job_type = 'SchedulerJob'") == [(1,)]),
        ):
            command = [sys.executable, "-m", "airflow", name]
            log = self.folder / f"{name}.log"
            self.pids[name] = start_server(command, log, answers, seconds=120, env=self.environment)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/version", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End everything, by process id."""
        for pid in reversed(self.pids.values()):
            family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
            stop_server(pid)
            for one in family:
                if psutil.pid_exists(one):
                    os.kill(one, signal.SIGKILL)

    def ask(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "airflow.db", timeout=60)) as connection:
            return list(connection.execute(query))

    def trigger(self, dag: str) -> None:
        command = [sys.executable, "-m", "airflow", "dags", "trigger", dag]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=120)
        until(f"program of {dag}", (self.folder / f"ran-{dag}").exists)

    def processes_of(self, dag: str) -> tuple[psutil.Process, psutil.Process]:
        """Supervisor and task process of the DAG's running task; the database knows the id of the latter's host and pid."""
        ((pid,),) = self.ask(f"select pid from task_instance where dag_id = '{dag}'")
        task = psutil.Process(pid)
        supervisor = task.parent()
        assert supervisor is not None
        return supervisor, task

    def state(self, dag: str) -> tuple[str, int]:
        (found,) = self.ask(f"select state, try_number from task_instance where dag_id = '{dag}'")
        return found  # type: ignore[no-any-return]


def containers(dag: str) -> list[str]:
    """Ids of those of a DAG, running or not."""
    command = ["docker", "ps", "-aq", "--filter", f"label=mlops.dag={dag}"]
    return subprocess.check_output(command, text=True).split()


def until(what: str, holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about in time"
        time.sleep(0.1)


@pytest.fixture
def installation(
    migrated_database: Path, tmp_path: Path, docker_daemon: str, busybox_image: str
) -> Iterator[Installation]:
    shutil.copyfile(migrated_database, tmp_path / "airflow.db")
    made = Installation(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_container_outlives_its_worker_and_the_supervisor_of_a_local_executor(installation: Installation) -> None:
    for dag in ("worker", "supervisor"):
        installation.trigger(dag)
    before = {dag: containers(dag) for dag in ("worker", "supervisor")}
    assert [len(found) for found in before.values()] == [1, 1]
    supervisor, task = installation.processes_of("worker")
    supervisor.kill()
    task.kill()
    lone, orphan = installation.processes_of("supervisor")
    lone.kill()
    assert orphan.is_running()
    for dag in ("worker", "supervisor"):
        until(f"second try of {dag}", lambda dag=dag: installation.state(dag) == ("running", 2))
        assert containers(dag) == before[dag]
    for dag in ("worker", "supervisor"):
        (installation.folder / f"go-{dag}").touch()
    for dag in ("worker", "supervisor"):
        until(f"end of {dag}", lambda dag=dag: installation.state(dag)[0] in ("success", "failed"))
        assert installation.state(dag) == ("success", 2)
        assert (installation.folder / f"ran-{dag}").read_text() == "ran\n"
    until("end of the orphan", lambda: not is_alive(orphan))
    assert [containers(dag) for dag in before] == [[], []]
    assert [*(installation.folder / "work").iterdir()] == []
