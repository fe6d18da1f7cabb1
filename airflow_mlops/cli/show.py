# SPDX-License-Identifier: Apache-2.0
"""``runs show``: one run of this machine, with what its steps measured."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_mlops.artifacts import Artifact, Store
    from airflow_mlops.artifacts.metrics import Metrics
    from airflow_mlops.cli.embedded import RunRecord, TaskResult
    from airflow_mlops.cli.records import Order
    from airflow_mlops.cli.results import Outcome, StepOutcome

MAX_OUTPUTS = 10
"""Metrics outputs that are drawn; of a run with more, one step is asked for at a time."""

_MAX_PARAMS = 20


@dataclass(frozen=True)
class Measured:
    """
    A metrics output of a step.

    :param metrics: its content; without shapes, if the file cannot be had
    :param problem: why it cannot
    """

    step: str
    output: str
    digest: str
    metrics: Metrics
    problem: str = ""


@click.command(short_help="Show a run: its steps, and what they measured.")
@click.argument("run")
@click.argument("step", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def show(run: str, step: str | None, as_json: bool) -> None:
    """
    Show a run of this machine: its steps, the numbers they measured, and their curves, matrices, tables and texts.

    RUN is "last", a pipeline, or the start or end of a run's name. STEP is one step of it.
    """
    from airflow_mlops.cli.records import find_run, read_order
    from airflow_mlops.cli.results import read_outcome
    from airflow_mlops.cli.session import open_store

    record = find_run(run)
    order = read_order(record.path)
    store = open_store(order.store)
    outcome = read_outcome(_with_tasks(record, order, store), order, store)
    if step is not None:
        outcome = replace(outcome, steps=_chosen(outcome, step))
    measured = [
        _measured(store, one, name, artifact)
        for one in outcome.steps
        for name, artifact in one.artifacts.items()
        if artifact.type == "metrics"
    ]
    if as_json:
        # What programs wrote may hold characters that a terminal obeys: all but ASCII is escaped.
        click.echo(json.dumps(_document(record, order, outcome, measured), indent=2))
        return
    _print(record, order, outcome, measured)


def _with_tasks(record: RunRecord, order: Order, store: Store) -> RunRecord:
    """A run with its steps: one that was killed, or goes on, has no list of them, but those that logged anything are known."""
    from airflow_mlops.cli.embedded import TaskResult, task_logs
    from airflow_mlops.cli.results import place_of, read_manifest

    if record.tasks:
        return record
    tasks: dict[tuple[str, int], TaskResult] = {}
    for task, index, number, path in task_logs(record.path):  # the last try comes last
        tasks[task, index] = TaskResult(task, index, "running", number, None, None, path)
    done = {key for key in tasks if read_manifest(store, place_of(order, *key)) is not None}
    return replace(
        record, tasks=tuple(replace(task, state="success") if key in done else task for key, task in tasks.items())
    )


def _chosen(outcome: Outcome, text: str) -> list[StepOutcome]:
    from airflow_mlops.spec.problems import did_you_mean, one_of

    wanted = text.replace(".", "/")
    found = [step for step in outcome.steps if step.name == wanted or step.name.startswith(f"{wanted}[")]
    if not found:
        names = [step.name for step in outcome.steps]
        if not names:
            raise CommandError(f"no step of run {outcome.run} has started; expected a run with steps")
        raise CommandError(
            f"run {outcome.run} has no step '{text}'; expected {one_of(names)}{did_you_mean(wanted, names)}"
        )
    return found


def _measured(store: Store, step: StepOutcome, name: str, artifact: Artifact) -> Measured:
    """A metrics output, compared with what was committed."""
    from airflow_mlops.artifacts import ArtifactError
    from airflow_mlops.artifacts.metrics import Metrics, fetch_metrics

    scalars = dict(step.metrics.get(name, {}))
    try:
        if store.contains(artifact.uri):
            metrics = fetch_metrics(store, store.key(artifact.uri), artifact.digest)
            return Measured(step.name, name, artifact.digest, metrics)
        problem = f"it was imported and is not in the store; it lies at {artifact.uri}"
    except ArtifactError as error:
        problem = str(error)
    return Measured(step.name, name, artifact.digest, Metrics(scalars, {}), looks.printable(problem))


def _print(record: RunRecord, order: Order, outcome: Outcome, measured: list[Measured]) -> None:
    from rich.text import Text

    from airflow_mlops.cli.report import print_report

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # names may hold what a terminal without UTF-8 cannot show
    console = looks.make_console()
    _header(console, record, order)
    print_report(console, outcome, called=outcome.run)
    seen: dict[str, str] = {}
    for one in measured[:MAX_OUTPUTS]:
        _output(console, one, seen)
    if len(measured) > MAX_OUTPUTS:
        console.print()
        more = f"and {len(measured) - MAX_OUTPUTS} more metrics outputs: airflow-mlops runs show {outcome.run} STEP"
        console.print(Text(more, style="dim"), soft_wrap=True)
    if any(one.metrics.shapes for one in measured):
        console.print()
        hint = f"the whole of them: airflow-mlops artifacts get {outcome.run} STEP.OUTPUT"
        console.print(Text(hint, style="dim"), soft_wrap=True)


def _header(console: Console, record: RunRecord, order: Order) -> None:
    """What was asked for."""
    from rich.text import Text

    started = record.started.astimezone().strftime("%Y-%m-%d %H:%M:%S") if record.started else "?"
    how = [word for word in (order.environment and f"-e {order.environment}", order.runtime) if word]
    facts = [
        ("run", record.path.name),
        ("spec", f"{order.spec}{f'  {chr(32).join(how)}' if how else ''}"),
        ("started", f"{started}{', still running' if record.alive else ''}"),
    ]
    params = [f"{name} {looks.scalar(value)}" for name, value in order.params.items()]
    if params:
        more = [f"{len(params) - _MAX_PARAMS} more"] if len(params) > _MAX_PARAMS else []
        facts.append(("params", ", ".join(params[:_MAX_PARAMS] + more)))
    for name, value in facts:
        console.print(Text.assemble((f"{name:<9}", "dim"), looks.printable(value)), soft_wrap=True)
    console.print()


def _output(console: Console, one: Measured, seen: dict[str, str]) -> None:
    """Print one metrics output; the same file again is not drawn again."""
    from rich.text import Text

    from airflow_mlops.cli.drawing import draw_metrics

    name = f"{one.step}.{one.output}"
    first = seen.setdefault(one.digest, name)
    console.print()
    console.print(Text(name, style="bold underline" if console.color_system else "bold"))
    if first != name and not one.problem:
        console.print(Text(f"the same as {first}", style="dim"))
        return
    draw_metrics(console, one.metrics)
    if one.problem:
        console.print(Text(f"its shapes cannot be shown: {one.problem}", style="red"), soft_wrap=True)


def _document(record: RunRecord, order: Order, outcome: Outcome, measured: list[Measured]) -> dict[str, Any]:
    """What ``run --json`` prints, and what was asked for, and the shapes."""
    document = outcome.as_document()
    for step in document["steps"].values():
        step |= {"shapes": {}, "unreadable": {}}
    for one in measured:
        step = document["steps"][one.step]
        step["shapes"][one.output] = {
            key: shape.model_dump(exclude_unset=True) for key, shape in one.metrics.shapes.items()
        }
        if one.problem:
            step["unreadable"][one.output] = one.problem
    return {
        **document,
        "alive": record.alive,
        "started": record.started.isoformat() if record.started else None,
        "spec": order.spec,
        "environment": order.environment,
        "params": order.params,
        "folder": str(record.path),
    }
