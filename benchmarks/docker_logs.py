# SPDX-License-Identifier: Apache-2.0
"""
What 200 MB of a container's output cost a worker: memory and time, beside the provider's DockerOperator.

Each run is a process of its own, so that its greatest memory is its own. Run it as ``python benchmarks/docker_logs.py``; it needs a Docker
daemon that has the image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DAG = """
from airflow.sdk import DAG
from airflow.providers.docker.operators.docker import DockerOperator
from airflow_mlops.operators import DockerContainerOperator

COMMAND = ["sh", "-c", "yes {line} | head -n {lines}"]
with DAG("logs", schedule=None) as dag:
    if {plain}:
        DockerOperator(task_id="step", image="{image}", command=COMMAND, mount_tmp_dir=False, auto_remove="force")
    else:
        DockerContainerOperator(task_id="step", image="{image}", command=COMMAND)
"""
RUN = """
import runpy, sys
run = runpy.run_path(sys.argv[1])["dag"].test()
sys.exit(str(run.state) != "success")
"""
LINE = "x" * 99
MB = 1_000_000


def prepare(home: Path) -> dict[str, str]:
    """An Airflow in a folder; its environment."""
    (home / "dags").mkdir(parents=True)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__MLOPS__STORE": (home / "store").as_uri(),
    }
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return environment


def measure(
    home: Path, environment: dict[str, str], image: str, megabytes: float, *, plain: bool
) -> tuple[float, float, int]:
    """Run one step; its seconds, its process's greatest memory in MB, and how many lines came through."""
    file = home / "dags" / "logs.py"
    lines = round(megabytes * MB / (len(LINE) + 1))
    file.write_text(DAG.format(line=LINE, lines=lines, image=image, plain=plain))
    output = home / "output"
    began = time.monotonic()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(file)], env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(output.read_bytes()[-3000:].decode(errors="replace"))
    with output.open("rb") as shown:
        came = sum(LINE.encode() in line for line in shown)
    if came < lines:
        raise SystemExit(f"only {came} of {lines} lines were logged")
    return seconds, usage.ru_maxrss * 1024 / MB, came


def main() -> None:
    """Measure both with little output and with much; exit with 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="mlops-busybox:1")
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--limit", type=float, default=100, help="MB that the memory may grow by")
    arguments = parser.parse_args()
    grown: dict[bool, float] = {}
    rate: dict[bool, float] = {}
    with tempfile.TemporaryDirectory() as name:
        environment = prepare(Path(name))
        for plain in (True, False):
            little = measure(Path(name), environment, arguments.image, 0.01, plain=plain)
            much = measure(Path(name), environment, arguments.image, arguments.megabytes, plain=plain)
            seconds, grown[plain] = much[0] - little[0], much[1] - little[1]
            rate[plain] = arguments.megabytes / seconds
            print(
                f"{'DockerOperator' if plain else 'DockerContainerOperator':<24} {seconds:6.1f} s, {rate[plain]:5.1f} MB/s; "
                f"memory {little[1]:.0f} MB, grown by {grown[plain]:.0f} MB"
            )
    print(
        f"ours reads {rate[False] / rate[True]:.2f} times as fast and keeps {grown[False]:.0f} MB (limit {arguments.limit:g})"
    )
    sys.exit(grown[False] > arguments.limit)


if __name__ == "__main__":
    main()
