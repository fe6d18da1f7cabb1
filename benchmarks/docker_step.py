# SPDX-License-Identifier: Apache-2.0
"""
What our Docker step costs beside the provider's DockerOperator, and what handing big artifacts on costs.

Pairs of tasks take turns in one DAG, so that both meet the same machine. Run it as ``python benchmarks/docker_step.py``; it needs a Docker
daemon that has the image.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

PAIRS_DAG = """
from airflow.sdk import DAG
from airflow.providers.docker.operators.docker import DockerOperator
from airflow_mlops.operators import DockerContainerOperator

with DAG("pairs", schedule=None) as dag:
    last = None
    for n in range({pairs}):
        plain = DockerOperator(
            task_id=f"plain-{{n:03}}", image="{image}", command=["true"], mount_tmp_dir=False, auto_remove="force"
        )
        ours = DockerContainerOperator(task_id=f"ours-{{n:03}}", image="{image}", command=["true"])
        if last is not None:
            last >> plain
        plain >> ours
        last = ours
"""

HANDOVER_DAG = """
from airflow.sdk import DAG
from airflow_mlops.operators import DockerPreprocessOperator, DockerContainerOperator

WRITE = "for name in a b; do dd if=/dev/zero of=/mlops/outputs/$name bs=1M count={mib}; done; sync; grep ^write_bytes /proc/self/io"
READ = "cat /mlops/inputs/a /mlops/inputs/b > /dev/null; grep write_bytes /proc/1/io /proc/self/io"
with DAG("handover", schedule=None) as dag:
    make = DockerPreprocessOperator(
        task_id="make", image="{image}", command=["sh", "-c", WRITE], outputs={{"a": "dataset", "b": "dataset"}}
    )
    use = DockerContainerOperator(
        task_id="use", image="{image}", command=["sh", "-c", READ], inputs={{"a": make.artifact("a"), "b": make.artifact("b")}}
    )
"""


def written_by_this_process() -> int:
    """Bytes that this process caused to be written, from the kernel's own count (Linux)."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    raise SystemExit("/proc/self/io has no write_bytes")


def prepare_airflow(home: Path) -> Path:
    """Set an Airflow up in a folder, before Airflow is imported; the folder for its DAG files."""
    dags = home / "dags"
    dags.mkdir(parents=True)
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(dags),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__MLOPS__STORE=(home / "store").as_uri(),
    )
    return dags


def run_dag(dags: Path, name: str, text: str) -> list[tuple[str, float]]:
    """Run a DAG in this process with Airflow's own task runner; task ids with the seconds each took."""
    import runpy

    file = dags / f"{name}.py"
    file.write_text(text)
    run = runpy.run_path(str(file))["dag"].test()
    return [
        (ti.task_id, (ti.end_date - ti.start_date).total_seconds())
        for ti in run.get_task_instances()
        if ti.state == "success"
    ]


def pairs(dags: Path, image: str, count: int, warm_up: int) -> float:
    """Print the cost of a step; the difference of the medians in seconds."""
    times = dict(run_dag(dags, "pairs", PAIRS_DAG.format(pairs=count + warm_up, image=image)))
    if len(times) != 2 * (count + warm_up):
        raise SystemExit(f"only {len(times)} of {2 * (count + warm_up)} tasks succeeded")
    plain = [times[f"plain-{n:03}"] for n in range(warm_up, count + warm_up)]
    ours = [times[f"ours-{n:03}"] for n in range(warm_up, count + warm_up)]
    for name, values in (("DockerOperator", plain), ("DockerContainerOperator", ours)):
        deciles = statistics.quantiles(values, n=10)
        print(f"{name:<24} median {statistics.median(values) * 1000:6.0f} ms   p90 {deciles[8] * 1000:6.0f} ms")
    differences = [b - a for a, b in zip(plain, ours, strict=True)]
    difference = statistics.median(ours) - statistics.median(plain)
    deciles = statistics.quantiles(differences, n=10)
    print(
        f"{count} pairs: {difference * 1000:+.0f} ms at the median ({statistics.median(ours) / statistics.median(plain):.2f}x); "
        f"of the pairs' differences: median {statistics.median(differences) * 1000:+.0f} ms, p90 {deciles[8] * 1000:+.0f} ms"
    )
    return difference


def handover(dags: Path, home: Path, image: str, mib: int) -> int:
    """Print what two artifacts cost on their way through a local store; bytes that the worker wrote."""
    import json

    before = written_by_this_process()
    times = dict(run_dag(dags, "handover", HANDOVER_DAG.format(image=image, mib=mib)))
    written = written_by_this_process() - before
    manifest = next((home / "store").glob("**/make/**/manifest.json"))
    timings = json.loads(manifest.read_text())["timings"]
    print(
        f"2 x {mib} MiB handed on: make {times['make']:.1f} s (of it hashing {timings['hash_seconds']:.1f} s), use {times['use']:.1f} s; "
        f"the worker wrote {written / 1e6:.2f} MB"
    )
    for log in sorted((home / "logs").glob("**/*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if "write_bytes" in line:
                print(f"  {log.parent.name}: {line[-200:]}")
    return written


def main() -> None:
    """Run both; exit with 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="mlops-busybox:1")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--limit-ms", type=float, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        dags = prepare_airflow(home)
        from airflow.utils.db import initdb

        initdb()
        difference = pairs(dags, arguments.image, arguments.pairs, arguments.warm_up)
        written = handover(dags, home, arguments.image, arguments.mib)
    sys.exit(difference * 1000 > arguments.limit_ms or written > 1_000_000)


if __name__ == "__main__":
    main()
