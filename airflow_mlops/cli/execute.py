# SPDX-License-Identifier: Apache-2.0
"""Run a pipeline in an embedded Airflow: what ``run`` and ``step`` have in common, from the order to the report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.docker_host import SOCKET
from airflow_mlops.cli.errors import FAILED, INTERRUPTED, SUCCESS, CommandError
from airflow_mlops.cli.leftovers import sweep
from airflow_mlops.cli.records import Order, write_order
from airflow_mlops.cli.session import INSTANCE, PREFIX, STORE, WORK_DIR, open_store, run_settings, work_folder
from airflow_mlops.spec.outcome import OUTCOME

if TYPE_CHECKING:
    from airflow_mlops.cli.approvals import Answers
    from airflow_mlops.cli.embedded import Question, Reply, RunRequest, RunResult, TaskEvent
    from airflow_mlops.cli.progress import Progress
    from airflow_mlops.spec import Pipeline

_DOCKER_PATIENCE = 5
"""Seconds that a Docker daemon has to take a connection."""


@dataclass(frozen=True)
class Job:
    """
    A pipeline that is to be run.

    :param pipeline: the pipeline, read and checked
    :param params: values that were given for parameters
    :param make_spec: writes the spec that is run into the run's folder, where it is not the user's own; gives its path
    :param step: the one step that is run of it, for the record
    """

    pipeline: Pipeline
    params: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    runtime: str | None = None
    make_spec: Callable[[Path], Path] | None = None
    step: str | None = None


@dataclass(frozen=True)
class Manner:
    """
    How a run goes on and what is shown of it.

    :param jobs: how many steps run at a time; ``None`` for what the machine bears
    :param store: URL or folder of the store; ``None`` for the user's own
    :param as_json: print one JSON document in place of a report
    :param approve: approvals that are given in advance, by step, or ``all``
    :param reject: those that are refused in advance
    """

    jobs: int | None = None
    store: str | None = None
    timeout: timedelta | None = None
    as_json: bool = False
    approve: Sequence[str] = ()
    reject: Sequence[str] = ()


def execute(job: Job, manner: Manner) -> int:
    """
    Run a pipeline to its end and print how it went.

    :return: the exit code
    :raises CommandError: if it cannot be started
    """
    from airflow_mlops.cli import embedded
    from airflow_mlops.cli.approvals import Answers, Prompt, can_prompt, in_advance, require_answers

    check_docker(job.pipeline)
    answers = in_advance(job.pipeline, manner.approve, manner.reject)
    can_ask = can_prompt() and not manner.as_json
    if not can_ask:
        require_answers(job.pipeline, answers, job.params)
    settings = run_settings(manner.store)
    store = open_store(settings[STORE])
    name = f"{job.pipeline.spec.name}-{job.step.replace('/', '-')}" if job.step else job.pipeline.spec.name
    folder = embedded.new_run_directory(name, spec=str(job.pipeline.file))
    order = _order(job, folder, settings)
    try:
        write_order(folder, order)
        request = _request(job, order, folder, manner, settings)
    except Exception:
        _forget(folder)
        raise
    progress = _progress(job, manner, folder)
    try:
        result = _run(request, folder, progress, Answers(answers, Prompt(progress) if can_ask else None))
    except embedded.EmbeddedError as error:
        raise CommandError(f"{job.pipeline.file}: {error} (see {folder / 'airflow.log'})") from error
    finally:
        progress.close()
        for what in sweep(Path(order.work), order.instance, kept_in=store):
            sys.stderr.write(f"removed what was left: {what}\n")

    from airflow_mlops.cli.results import read_outcome

    outcome = read_outcome(_record_of(folder), order, store)
    if manner.as_json:
        sys.stdout.write(json.dumps(outcome.as_document(), indent=2, ensure_ascii=False) + "\n")
    else:
        from airflow_mlops.cli.report import print_report

        print_report(looks.make_console(), outcome)
    if result.interrupted:
        return INTERRUPTED
    return SUCCESS if result.state == "success" else FAILED


def _run(request: RunRequest, folder: Path, progress: Progress, answers: Answers) -> RunResult:
    from airflow_mlops.cli.embedded import run
    from airflow_mlops.cli.interrupts import noticed

    with noticed() as pressed:
        stopped = False
        deadline = None if request.timeout is None else time.monotonic() + request.timeout

        def notice_stop() -> None:
            nonlocal deadline, stopped
            late = deadline is not None and time.monotonic() > deadline
            if late:
                deadline = None
            if pressed() or late:
                stopped = True
                progress.on_stop()

        def on_event(event: TaskEvent) -> None:
            # First: what a step's new state is called depends on whether it is being stopped.
            notice_stop()
            if event.task_id == OUTCOME:
                return
            progress.on_event(event)

        def on_tick() -> None:
            notice_stop()
            progress.on_tick()

        def on_question(question: Question | None) -> Reply | None:
            notice_stop()
            return None if stopped else answers.reply(question)

        return run(request, folder, on_event=on_event, on_tick=on_tick, on_question=on_question)


def _forget(folder: Path) -> None:
    """Take back the folder of a run that did not begin."""
    from airflow_mlops.cli.embedded.runs import release, remove_run

    release(folder)
    remove_run(folder)


def _record_of(folder: Path) -> Any:
    from airflow_mlops.cli.embedded.runs import record

    return record(folder)


def _order(job: Job, folder: Path, settings: Mapping[str, str]) -> Order:
    from airflow_mlops.cli.params import with_defaults

    return Order(
        run_id=folder.name,
        pipeline=job.pipeline.spec.name,
        spec=str(job.pipeline.file.absolute()),
        store=settings[STORE],
        instance=settings[INSTANCE],
        environment=job.environment,
        runtime=job.runtime,
        step=job.step,
        params=with_defaults(job.pipeline, dict(job.params)),
        work=str(work_folder(folder)),
    )


def _request(job: Job, order: Order, folder: Path, manner: Manner, settings: Mapping[str, str]) -> RunRequest:
    from airflow_mlops.cli.embedded import RunRequest

    if job.make_spec is not None:
        # What was written is resolved already: nothing is left to apply.
        arguments = [repr(str(job.make_spec(folder)))]
    else:
        arguments = [repr(order.spec), f"environment={job.environment!r}", f"runtime={job.runtime!r}"]
    return RunRequest(
        dag_source=f"from airflow_mlops.factory import pipeline_dag\n\ndag = pipeline_dag({', '.join(arguments)})\n",
        dag_id=order.pipeline,
        run_id=order.run_id,
        conf=dict(job.params),
        jobs=manner.jobs,
        environment={**settings, WORK_DIR: order.work},
        timeout=manner.timeout.total_seconds() if manner.timeout else None,
    )


def _progress(job: Job, manner: Manner, folder: Path) -> Progress:
    from airflow_mlops.cli import progress
    from airflow_mlops.cli.embedded.terminal import terminal

    def explain(event: TaskEvent) -> str:
        from airflow_mlops.cli.results import why_again

        return why_again(folder, event.task_id, event.map_index)

    if manner.as_json:
        return progress.Lines(_saved_stderr(), explain)
    file = terminal()
    if not looks.is_live(file):
        return progress.Lines(file, explain)
    steps = [step.task_id for step in job.pipeline.steps()] if job.step is None else []
    return progress.Live(looks.make_console(file), steps, explain)


def _saved_stderr() -> TextIO:
    """Standard error as it is now: while a run goes on, what Airflow says there goes to a file."""
    sys.stderr.flush()
    return os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")


def check_docker(pipeline: Pipeline) -> None:
    """
    See whether a Docker daemon takes connections, where a pipeline needs one that can be told from here.

    :raises CommandError: if none does, saying so before anything is started
    """
    from airflow_mlops.spec.models import PROGRAM_KINDS

    needing = [
        step
        for step in pipeline.steps()
        if step.spec.runtime == "docker"
        and step.spec.kind in PROGRAM_KINDS
        and step.spec.docker.keys().isdisjoint(("docker_url", "docker_conn_id", "docker_host_conn_id"))
    ]
    if not needing or os.environ.get(f"{PREFIX}DOCKER_HOST_CONN_ID"):
        return
    url = os.environ.get("DOCKER_HOST") or SOCKET
    if not url.startswith("unix://"):
        return
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_DOCKER_PATIENCE)
        try:
            connection.connect(url.removeprefix("unix://"))
        except OSError as error:
            raise CommandError(
                f"{pipeline.file}: step '{needing[0].task_id}' runs on Docker, and no daemon answers at {url} "
                f"({error.strerror or error}); "
                "start it, name another one with DOCKER_HOST, or use --runtime process"
            ) from None
