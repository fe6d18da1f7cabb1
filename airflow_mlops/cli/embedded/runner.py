# SPDX-License-Identifier: Apache-2.0
"""
One run from its DAG file to its result, phase by phase; everything of Airflow is imported only when its configuration
is in place.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.embedded import environment, runs
from airflow_mlops.cli.embedded.model import (
    DagRefused,
    EmbeddedError,
    EmbeddedUnavailable,
    OnEvent,
    OnQuestion,
    OnTick,
    RunRequest,
    RunResult,
    TaskResult,
)
from airflow_mlops.cli.embedded.terminal import redirected
from airflow_mlops.cli.embedded.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run(
    request: RunRequest,
    run_dir: Path,
    on_event: OnEvent | None = None,
    on_tick: OnTick | None = None,
    on_question: OnQuestion | None = None,
) -> RunResult:
    """
    Run one DAG in this process, to its end or until it is stopped. A process can do this once.

    File descriptors 1 and 2 lead to ``<run_dir>/airflow.log`` meanwhile; write to
    :func:`~airflow_mlops.cli.embedded.terminal.terminal`.

    :param request: what to run
    :param run_dir: a folder from :func:`~airflow_mlops.cli.embedded.runs.new_run_directory`
    :param on_event: told of every change of a task's state, and why a task waits
    :param on_tick: called between phases and about five times a second while the scheduler runs, so that a display
        needs no thread
    :param on_question: answers what tasks ask people, or does not yet; it must not wait, since the scheduler would, too. Without it, nobody does
    :raises DagRefused: if the DAG file does not import, or has no such DAG, or the DAG does not take the parameters
    :raises EmbeddedUnavailable: if this machine has no ``fork``, or this process has a second thread
    :raises EmbeddedError: if the embedded Airflow itself failed; what these functions raise stops the
        run and comes out as it is
    """
    _require_fork()
    runs.hold(run_dir)
    started = time.monotonic()
    runs.update_record(run_dir, dag_id=request.dag_id, run_id=request.run_id, state="running")
    state = "error"
    tasks: tuple[TaskResult, ...] = ()
    try:
        with redirected(run_dir / "airflow.log"):
            told = on_event or (lambda event: None), on_tick or (lambda: None), on_question or (lambda question: None)
            result = _Run(request, run_dir, told, started).result()
        state, tasks = result.state, result.tasks
    except DagRefused:
        state = "refused"
        raise
    except KeyboardInterrupt:  # before the scheduler took over the signals
        state = "interrupted"
        return RunResult(state, ())
    finally:
        ended = datetime.now(UTC).isoformat()
        runs.update_record(run_dir, state=state, ended=ended, tasks=runs.tasks_as_json(run_dir, tasks))
        runs.release(run_dir)
    return result


class _Run:
    def __init__(
        self, request: RunRequest, run_dir: Path, told: tuple[OnEvent, OnTick, OnQuestion], started: float
    ) -> None:
        self._request, self._run_dir = request, run_dir
        self._on_event, self._on_tick, self._on_question = told
        self._deadline = None if request.timeout is None else started + request.timeout
        self._timings = Timings()

    def result(self) -> RunResult:
        request = self._request
        environment.prepare(self._run_dir, request.jobs, request.environment)
        with _without_garbage_collection():
            self._import()
            api = self._api()
            self._database()
            order = self._trigger()
        watch = self._schedule(api)
        watch.look()
        tasks = watch.results(self._run_dir, order)
        self._lap("results")
        self._timings.write(self._run_dir)
        if watch.problem is not None:
            raise watch.problem
        return RunResult(watch.verdict or ("timeout" if watch.late else "interrupted"), tasks)

    def _lap(self, phase: str) -> None:
        self._timings.lap(phase)
        self._on_tick()

    def _import(self) -> None:
        import airflow.settings  # noqa: F401

        self._lap("import_airflow")
        from airflow_mlops.cli.embedded import compat

        compat.preload()
        self._lap("import_rest")

    def _api(self) -> Any:
        from airflow_mlops.cli.embedded import compat

        api, trimmed = compat.execution_api()
        self._lap("api" if trimmed else "api_untrimmed")
        return api

    def _database(self) -> None:
        from airflow_mlops.cli.embedded.database import make_database

        copied = make_database(self._run_dir)
        self._lap("database" if copied else "database_made")

    def _trigger(self) -> list[str]:
        from airflow_mlops.cli.embedded.dags import load, trigger

        file = self._run_dir / "dags" / "pipeline.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(self._request.dag_source, encoding="utf-8")
        order = load(file, self._request.dag_id)
        self._lap("dag")
        trigger(self._request.dag_id, self._request.run_id, dict(self._request.conf))
        self._lap("trigger")
        return order

    def _schedule(self, api: Any) -> Any:
        from airflow.jobs.job import run_job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

        from airflow_mlops.cli.embedded import compat
        from airflow_mlops.cli.embedded.executor import RunExecutor
        from airflow_mlops.cli.embedded.watch import Watch

        told = self._on_event, self._on_tick, self._on_question
        watch = Watch(self._request.dag_id, self._request.run_id, *told, self._deadline)
        RunExecutor.watch, RunExecutor.api = watch, api
        job = compat.make_job()
        runner = SchedulerJobRunner(job=job)
        self._lap("scheduler_made")
        try:
            run_job(job=job, execute_callable=runner._execute)  # swallows the SystemExit that ends the loop
        except Exception as error:
            raise EmbeddedError(f"the scheduler failed: {error}; see {self._run_dir / 'airflow.log'}") from error
        self._lap("loop")
        return watch


def _require_fork() -> None:
    if not hasattr(os, "fork"):
        raise EmbeddedUnavailable(
            "an embedded Airflow forks its tasks, which this system cannot; use Linux, macOS or WSL 2"
        )
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:
        raise EmbeddedUnavailable(
            f"this process has other threads ({', '.join(others)}), and a fork takes over their locks without them; "
            "start none before or during a run"
        )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """
    Imports make a million objects that stay: collecting among them costs a third of the time, and touching them later
    unshares forked memory.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
