# SPDX-License-Identifier: Apache-2.0
"""
A worker that is a container itself, beside the Docker daemon of its host: what it calls its folders is not what the daemon calls them.

The worker's container holds no Airflow of its own: it is given the one of the tests, by the same paths.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.parts.airflow_home import airflow_settings
from tests.parts.docker import DEFAULT_SOCKET
from tests.parts.images import ROOT

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

HOME = Path("/opt/airflow")
"""What the worker calls the folder that its host calls something else."""

SPEC = """
apiVersion: mlops/v1
name: contained
source: ./src
defaults: {image: "mlops-busybox:1"}
steps:
  - name: make
    kind: preprocess
    command: [sh, make.sh]
    secrets: {TOKEN: {variable: token}}
    outputs: {data: {type: dataset, file: data.txt}, mounts: string}
  - {name: use, kind: container, command: [grep, -q, made, "{{ inputs.data.path }}"], inputs: {data: make.data}}
"""
MAKE = """
echo made > "$MLOPS_OUTPUT_DATA"
test "$(cat "$MLOPS_SECRET_TOKEN")" = hush-hush || exit 7
grep ' /mlops' /proc/self/mountinfo | cut -d' ' -f4,5 > "$MLOPS_OUTPUT_MOUNTS"
"""
DAG_FILE = """
from airflow_mlops import pipeline_dag

dag = pipeline_dag("spec.yaml")
"""


def run_in_a_container(
    migrated_database: Path, folder: Path, spec: str = SPEC, memory: tuple[str, ...] = (), **settings: str
) -> dict[str, Any]:
    """
    Run the DAG by a worker in a container; its home is a folder of this host.

    :param memory: options of ``docker run`` about where its secrets go
    """
    home = folder / "home"
    environment = airflow_settings(home)
    (home / "dags" / "src").mkdir()
    (home / "dags" / "spec.yaml").write_text(dedent(spec))
    (home / "dags" / "src" / "make.sh").write_text(MAKE)
    (home / "dags" / "dag_under_test.py").write_text(DAG_FILE)
    shutil.copyfile(migrated_database, home / "airflow.db")
    environment = {name: value.replace(str(home), str(HOME)) for name, value in environment.items()}
    environment |= {
        "AIRFLOW__MLOPS__WORK_DIR": f"{HOME}/scratch",
        "AIRFLOW_VAR_TOKEN": "hush-hush",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        **settings,
    }
    binds = {home: HOME, Path(DEFAULT_SOCKET.removeprefix("unix://")): Path("/var/run/docker.sock")}
    binds |= {path: path for path in (Path(sys.prefix), ROOT)}
    interpreter = Path(sys.executable).resolve()
    if not interpreter.is_relative_to("/usr"):
        binds[interpreter.parents[1]] = interpreter.parents[1]
    command = ["docker", "run", "--rm", "--network", "none", "--label", "mlops.tests=worker", *memory]
    command += [f"--volume={here}:{there}{':ro' if here == there else ''}" for here, there in binds.items()]
    command += [f"--env={name}={value}" for name, value in environment.items()]
    command += ["python-sklearn:1", sys.executable, "-P", str(ROOT / "tests" / "parts" / "dag_test.py")]
    command += [f"{HOME}/dags/dag_under_test.py", "{}", f"{HOME}/answer.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    log = done.stdout + done.stderr
    assert (home / "answer.json").exists(), log[-4000:]
    answer: dict[str, Any] = json.loads((home / "answer.json").read_text())
    return {**answer, "log": log, "home": home}


def left_over() -> list[str]:
    commands = (["ps", "-aq"], ["volume", "ls", "-q"])
    filters = ["--filter", "label=mlops.managed=true"]
    return [
        word
        for command in commands
        for word in subprocess.check_output(["docker", *command, *filters], text=True).split()
    ]


@pytest.fixture(autouse=True)
def images(docker_daemon: str, busybox_image: str, python_image: str) -> None:
    """Every test here needs the daemon and the images."""
    if os.environ["DOCKER_HOST"] != DEFAULT_SOCKET:
        pytest.skip(f"the worker's container is given the daemon's socket; DOCKER_HOST is {os.environ['DOCKER_HOST']}")


def test_host_paths_say_what_the_daemon_calls_the_workers_folders(migrated_database: Path, tmp_path: Path) -> None:
    names = {str(HOME): str(tmp_path / "home")}
    done = run_in_a_container(
        migrated_database,
        tmp_path,
        memory=("--volume=/dev/shm:/dev/shm",),
        AIRFLOW__MLOPS__HOST_PATHS=json.dumps(names),
    )
    assert done["tasks"] == {"make": "success", "use": "success"}, done["log"][-3000:]
    mounts = done["xcoms"]["make"]["parameters"]["mounts"]
    assert "/home/scratch/" in mounts, mounts
    assert left_over() == []


def test_without_host_paths_files_travel_through_the_daemon(migrated_database: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("variable: token", "variable: token, as: env")
    text = MAKE.replace('$(cat "$MLOPS_SECRET_TOKEN")', "$TOKEN")
    done = run_in_a_container(
        migrated_database, tmp_path, spec.replace("[sh, make.sh]", json.dumps(["sh", "-c", text]))
    )
    assert done["tasks"] == {"make": "success", "use": "success"}, done["log"][-3000:]
    assert "does not see this worker's files" in done["log"]
    assert left_over() == []


def test_secrets_as_files_are_refused_where_they_would_lie_on_a_disk(migrated_database: Path, tmp_path: Path) -> None:
    done = run_in_a_container(migrated_database, tmp_path)
    assert done["tasks"]["make"] == "failed"
    assert "policy: secrets as files (TOKEN) need a Docker daemon that sees the worker's memory" in done["log"]
    assert "hush-hush" not in done["log"]
    assert left_over() == []
