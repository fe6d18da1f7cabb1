# SPDX-License-Identifier: Apache-2.0
"""
Measure what identifies a try of a task, on the Airflow that runs this file.

A scheduler, an execution API, supervisors and a triggerer, all of them Airflow's own, run in an Airflow home of their
own; this process edits DAG files, triggers, clears, deletes and kills. ``python experiment.py HOME [SCENARIO…]`` leaves
``HOME/facts.json`` and prints the table.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installation import Airflow, prepare
from scenarios import SCENARIOS, dag_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _job(name: str) -> None:
    from airflow.jobs.job import Job, run_job

    job: Any = Job()  # type: ignore[no-untyped-call]
    runner: Any
    if name == "scheduler":
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

        runner = SchedulerJobRunner(job)
    else:
        from airflow.jobs.triggerer_job_runner import TriggererJobRunner

        runner = TriggererJobRunner(job, capacity=200)
    run_job(job=job, execute_callable=runner._execute)


def start_job(name: str) -> Any:
    """Start one of Airflow's jobs."""
    from airflow import settings

    if settings.engine:
        settings.engine.dispose()  # a forked process must not share connections
    process = multiprocessing.get_context("fork").Process(target=_job, args=(name,), name=name)
    process.start()
    return process


def _stop(process: Any) -> None:
    process.terminate()
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join(10)


@contextlib.contextmanager
def running(*jobs: str) -> Iterator[dict[str, Any]]:
    """
    A migrated database, and Airflow's scheduler and triggerer as processes, by name; ``prepare`` comes first. What is put in place of one is
    stopped at the end.
    """
    import fork_executor
    from airflow.utils.db import initdb

    initdb()
    fork_executor.warm_up()
    sys.dont_write_bytecode = True  # an edit within the same second would be hidden by the first version's bytecode
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    processes = {name: start_job(name) for name in jobs}
    try:
        yield processes
    finally:
        for process in processes.values():
            _stop(process)


def measure(home: Path) -> dict[str, Any]:
    """Run every scenario; a scenario's facts are its tries, with the database's view beside them."""
    from airflow import __version__

    af = Airflow(home)
    facts: dict[str, Any] = {"airflow": __version__, "scenarios": {}, "seconds": {}}
    wanted = sys.argv[2:] or [*SCENARIOS, "dag_test"]

    def run(name: str, scenario: Callable[[Airflow, str], list[str]]) -> None:
        began = time.monotonic()
        if not (home / f"orders-{name}.json").exists():
            af.order(name)
        labels = scenario(af, name)
        rows = {row["id"]: row for row in af.rows(name)}
        tries = af.tries(name)
        remaining = iter(labels)
        for record in tries:
            record["event"] = next(remaining, "") if record["task_id"] == "step" else ""
            record["database"] = rows.get(record["id"])
        facts["scenarios"][name] = tries
        facts["seconds"][name] = round(time.monotonic() - began, 1)

    with running("scheduler", "triggerer"):
        for name, scenario in SCENARIOS.items():
            if name in wanted:
                run(name, scenario)
    if "dag_test" in wanted:
        run("dag_test", dag_test)
    from probe import records

    facts["on_kill"] = [r["dag_id"] for r in records() if r["what"] == "on_kill"]
    return facts


def table(facts: dict[str, Any]) -> str:
    """The facts as the lines of a Markdown table."""
    lines = [f"Airflow {facts['airflow']}", "| scenario | try of | id | try | max | retries | sum | clears |"]
    for name, tries in facts["scenarios"].items():
        names: dict[str, str] = {}
        for t in tries:
            alias = names.setdefault(t["id"], chr(ord("A") + len(names)))
            where = f"{t['task_id']}[{t['map_index']}]={t['item']} " if t["map_index"] >= 0 else ""
            total = t["max_tries"] - t["retries"] + 1
            lines.append(
                f"| {name} | {where}{t['event']} | {alias} | {t['try_number']} | {t['max_tries']} | {t['retries']} "
                f"| {total} | {t['clear_number']} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    prepare(target)
    measured = measure(target)
    (target / "facts.json").write_text(json.dumps(measured, indent=1))
    print(table(measured))
