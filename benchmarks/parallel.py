# SPDX-License-Identifier: Apache-2.0
"""
Fifty Docker steps at the same time: what they ask of the daemon, and whether anything of them is left.

``airflow-mlops run`` of a spec of independent no-op steps, then the same steps one after the other in this process, where threads and open
files can be counted. Run it as ``python benchmarks/parallel.py``; it needs a Docker daemon that has the image.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SPEC = "apiVersion: mlops/v1\nname: parallel\ndefaults: {{runtime: docker, image: '{image}'}}\nsteps:\n"
STEP = "  - {{name: step-{number}, kind: container, command: ['true']}}\n"
DAG = "from airflow_mlops import pipeline_dag\ndag = pipeline_dag('spec.yaml')\n"


def containers() -> list[str]:
    """Ids of the containers and names of the volumes of steps that are there."""
    commands = (["docker", "ps", "-aq"], ["docker", "volume", "ls", "-q"])
    label = ["--filter", "label=mlops.managed=true"]
    return [word for command in commands for word in subprocess.check_output([*command, *label], text=True).split()]


def open_files() -> collections.Counter[str]:
    """
    What this process has open, by kind: pipes and sockets, or a path. Event loops are left out: ``dag.test()`` leaves one a task, whatever the
    operator.
    """
    found: collections.Counter[str] = collections.Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[re.sub(r"\[\d+\]", "", os.readlink(entry))] += 1
        except OSError:
            continue
    del found["anon_inode:[eventpoll]"]
    return found


def side_by_side(home: Path, spec: Path, steps: int) -> None:
    """Run them all at once, and say what is left."""
    environment = {**os.environ, "AIRFLOW_MLOPS_HOME": str(home / "runs")}
    command = [sys.executable, "-m", "airflow_mlops", "run", str(spec), "--jobs", str(steps), "--json"]
    began = time.monotonic()
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    left = containers()
    processes = subprocess.run(
        ["pgrep", "-f", str(home)], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.split()
    print(
        f"{steps} steps at once: {seconds:.1f} s, {seconds / steps:.2f} s a step; left: containers {left}, processes {processes}"
    )
    if left or processes:
        raise SystemExit("something is left")


def one_by_one(home: Path, steps: int) -> None:
    """Run them in this process, count what is asked of the daemon, and what is left open."""
    import runpy

    import requests

    asked: collections.Counter[str] = collections.Counter()
    send: Any = requests.Session.send

    def counted(self: Any, request: Any, **options: Any) -> Any:
        if "docker" in request.url:
            path = re.sub(r"^/v[\d.]+|\?.*$", "", request.path_url)
            asked[f"{request.method} {re.sub(r'[0-9a-f]{64}|mlops-[-a-z0-9:]+', '…', path.partition('?')[0])}"] += 1
        return send(self, request, **options)

    requests.Session.send = counted  # type: ignore[method-assign]
    dag = runpy.run_path(str(home / "dags" / "dag.py"))["dag"]
    dag.test()  # what is opened once is open now
    asked.clear()
    threads, files = threading.active_count(), open_files()
    run = dag.test()
    if str(run.state) != "success":
        raise SystemExit(f"the run ended as {run.state}")
    more = {name: count - files[name] for name, count in open_files().items() if count > files[name]}
    total = sum(asked.values())
    print(f"one after the other: {total / steps:.1f} requests to the daemon a step")
    for name, count in asked.most_common():
        print(f"  {count / steps:5.1f}  {name}")
    print(
        f"threads {threading.active_count() - threads:+d}; files left open: {more or 'none'}; containers {containers()}"
    )
    if threading.active_count() > threads or sum(more.values()) > 2 or containers():  # noqa: PLR2004 - not one a step
        raise SystemExit("something is left")


def main() -> None:
    """Do both; exit with 1 if something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="mlops-busybox:1")
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        dags = home / "dags"
        dags.mkdir()
        steps = "".join(STEP.format(number=number) for number in range(arguments.steps))
        (dags / "spec.yaml").write_text(SPEC.format(image=arguments.image) + steps)
        (dags / "dag.py").write_text(DAG)
        side_by_side(home, dags / "spec.yaml", arguments.steps)
        os.environ.update(
            AIRFLOW_HOME=str(home),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__CORE__DAGS_FOLDER=str(dags),
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
            AIRFLOW__MLOPS__STORE=(home / "store").as_uri(),
        )
        from airflow.utils.db import initdb

        initdb()
        one_by_one(home, arguments.steps)


if __name__ == "__main__":
    main()
