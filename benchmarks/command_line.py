# SPDX-License-Identifier: Apache-2.0
"""
What ``airflow-mlops`` costs: ``validate`` of twenty steps, ``run`` of one and of eleven trivial steps, and where the time of the example goes.

Wall seconds of whole processes in a home of their own; the first of each kind, which warms caches, is dropped; medians are printed. Run it as
``python benchmarks/command_line.py``; the example needs what ``setup.cfg`` lists under ``examples``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[1] / "dags" / "breast-cancer" / "pipeline.yaml"
VALIDATE_LIMIT, STEP_LIMIT, FURTHER_LIMIT = 0.3, 5.0, 0.3
HEAD = "apiVersion: mlops/v1\nname: {name}\ndefaults: {{runtime: process}}\nsteps:\n"


def chain(folder: Path, length: int) -> Path:
    """A pipeline of steps that do nothing, one after the other."""
    steps = (
        f"  - {{name: s{number}, kind: container, command: ['true']{f', needs: [s{number - 1}]' if number else ''}}}\n"
        for number in range(length)
    )
    path = folder / f"chain-{length}.yaml"
    path.write_text(HEAD.format(name=f"chain-{length}") + "".join(steps))
    return path


def timed(folder: Path, *words: str | Path) -> tuple[float, str]:
    """Run a command; how long it took, and what it printed."""
    environment = {**os.environ, "AIRFLOW_MLOPS_HOME": str(folder / "home"), "AIRFLOW_MLOPS_TIMINGS": "1"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "airflow_mlops", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return time.monotonic() - started, done.stdout


def median(folder: Path, rounds: int, *words: str | Path) -> float:
    """Seconds of a command, warm."""
    found = [timed(folder, *words)[0] for _ in range(rounds + 1)][1:]
    print(
        f"  {' '.join(str(getattr(word, 'name', word)) for word in words):28} {' '.join(f'{one:.2f}' for one in found)} s"
    )
    return statistics.median(found)


def critical_path(seconds: dict[str, float]) -> tuple[float, list[str]]:
    """The longest way through the example, by how long its steps took."""
    from airflow_mlops.spec import load_pipeline

    pipeline = load_pipeline(EXAMPLE, environment="dev")
    longest: dict[str, tuple[float, list[str]]] = {}
    for step in pipeline.steps():  # written in an order in which they can run
        before = ["/".join(item.step) for item in step.inputs.values()] + ["/".join(path) for path in step.needs]
        name = "/".join(step.path)
        took, way = max((longest[other] for other in before), default=(0.0, []))
        longest[name] = (took + seconds[name], [*way, name])
    return max(longest.values())


def example(folder: Path) -> None:
    """Run the example warm, and say what of it is not its steps."""
    timed(folder, "run", EXAMPLE, "-e", "dev", "--json")
    wall, printed = timed(folder, "run", EXAMPLE, "-e", "dev", "--json")
    run: dict[str, Any] = json.loads(printed)
    path, way = critical_path({name: step["seconds"] for name, step in run["steps"].items()})
    laps: dict[str, float] = json.loads((folder / "home" / "runs" / run["run"] / "timings.json").read_text())
    phases = {name: took for name, took in laps.items() if name not in ("cpu", "cpu_before", "total", "loop")}
    start = sum(phases.values())
    print(f"example: {wall:.1f} s; critical path {path:.1f} s ({', '.join(way)}); {wall - path:.1f} s beside it:")
    print(
        f"  {start:.1f} s before and after the scheduler's loop: {', '.join(f'{n} {t:.2f}' for n, t in phases.items())}"
    )
    print(f"  {laps['loop'] - path:.1f} s in it, between one step's end and the next one's start")
    print(f"  {wall - laps['total']:.1f} s around it: Python's start, reading the spec, the report")


def main() -> None:
    """Measure; exit with 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        validate = median(folder, rounds, "validate", chain(folder, 20))
        one = median(folder, rounds, "run", chain(folder, 1))
        further = (median(folder, rounds, "run", chain(folder, 11)) - one) / 10
        example(folder)
    print(f"validate of 20 steps {validate:.2f} s; the limit is {VALIDATE_LIMIT} s")
    print(
        f"run of one step {one:.2f} s, each further one {further:.2f} s; the limits are {STEP_LIMIT:g} and {FURTHER_LIMIT} s"
    )
    sys.exit(validate > VALIDATE_LIMIT or one > STEP_LIMIT or further > FURTHER_LIMIT)


if __name__ == "__main__":
    main()
