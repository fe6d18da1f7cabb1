# SPDX-License-Identifier: Apache-2.0
"""
How long a step waits for an MLflow server that is well: at its begin, which goes on beside the staging of its inputs, and at its end.

A real server on SQLite, warm; 50 steps of one run, one after the other, with ten numbers and a curve of a hundred points each.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from airflow_mlops.artifacts import Store, digest_path
from airflow_mlops.artifacts.generations import Try
from airflow_mlops.operators import tracking
from airflow_mlops.operators.attempt import Attempt
from airflow_mlops.operators.identity import TaskIdentity
from airflow_mlops.operators.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.parts.mlflow import running_mlflow  # noqa: E402

STEPS = 50


def attempt_of(folder: Path, number: int) -> Attempt:
    """An attempt of a step."""
    current = Try(id="2", map_index=-1, try_number=1, max_tries=3, retries=0, clears=0, run_started=0.0)
    identity = TaskIdentity(instance="i", dag_id="bench", run_id="r", task_id=f"step-{number}", current=current)
    store = Store.open(f"file://{folder}/store")
    return Attempt.plan(identity, store, Settings(store.url, work_dir=folder, mlflow_conn_id="tracker"), "c" * 12)


def reference_of(attempt: Attempt, folder: Path) -> dict[str, Any]:
    """What a step hands on that measured something."""
    curve = {"type": "curve", "x": list(range(100)), "y": [1 / (n + 1) for n in range(100)]}
    numbers = {f"m{number}": number / 10 for number in range(10)}
    file = folder / f"{attempt.identity.task_id}.json"
    file.write_text(json.dumps({**numbers, "loss": curve}))
    key = f"{attempt.key}/outputs/metrics"
    attempt.store.upload(file, key)
    found = digest_path(file)
    artifact = {"name": "metrics", "type": "metrics", "uri": attempt.store.uri(key), "digest": found.digest}
    artifact |= {"size": found.size, "is_tree": False, "file": None, "metadata": numbers}
    document = {"version": 1, "manifest": attempt.store.uri("m"), "sha256": "0" * 64, "parameters": {}}
    return {**document, "artifacts": {"metrics": artifact}, "metrics": {}}


def main() -> None:
    """Measure and print."""
    begins, ends, warnings = [], [], []
    operator: Any = SimpleNamespace(log=SimpleNamespace(warning=lambda *words: warnings.append(words)))
    context = {"params": {"C": 1}}
    with TemporaryDirectory() as scratch, running_mlflow(Path(scratch)) as server:
        os.environ["AIRFLOW_CONN_TRACKER"] = server.url
        for number in range(STEPS):
            attempt = attempt_of(Path(scratch), number)
            reference = reference_of(attempt, Path(scratch))
            began = time.perf_counter()
            attempt.tracked = tracking.begin(operator, context, attempt, {"C": 1})()
            begun = time.perf_counter()
            tracking.end(operator, context, attempt, "FINISHED", reference)()
            begins.append(begun - began)
            ends.append(time.perf_counter() - begun)
    for name, values in (("begin", begins), ("end", ends)):
        values.sort()
        print(
            f"{name:6} median {statistics.median(values) * 1000:4.0f} ms, 95 % below {values[int(STEPS * 0.95)] * 1000:4.0f} ms"
        )
    print(f"warnings {len(warnings)}")


if __name__ == "__main__":
    main()
