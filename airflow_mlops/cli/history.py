# SPDX-License-Identifier: Apache-2.0
"""``runs`` and ``logs``: what was run on this machine, and what a step printed. A run is shown by :mod:`~airflow_mlops.cli.show`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.show import show

if TYPE_CHECKING:
    from airflow_mlops.cli.embedded import RunRecord


_WIDE, _NARROW, _TINY = 100, 72, 60
"""Columns of a terminal from which on, and below which, there is room for more, for less, and for no table."""


@click.group(invoke_without_command=True)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="The newest N.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def runs(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List the runs of this machine, the newest first."""
    if ctx.invoked_subcommand is None:
        _list(limit, as_json)
        return
    for name, flag in (("limit", "-n"), ("as_json", "--json")):
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(
                f"{flag} is of the list; expected it after '{ctx.invoked_subcommand}', or not at all"
            )


runs.add_command(show)


def _list(limit: int, as_json: bool) -> None:
    from airflow_mlops.cli.embedded.home import home
    from airflow_mlops.cli.embedded.runs import list_runs

    found = list_runs()
    if as_json:
        import json

        click.echo(json.dumps([_document(run) for run in found[:limit]], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(f"no runs in {home() / 'runs'}; start one with airflow-mlops run SPEC")
        return
    from rich.text import Text

    console = looks.make_console()
    # A run's name holds its start and its pipeline, and must stay in one piece: it is what other commands are given.
    columns = ["started", "pipeline", "state", "time", "run"]
    if console.width < _WIDE:
        columns = ["state", "run"] if console.width < _NARROW else ["started", "state", "time", "run"]
    if console.width < _TINY:
        for run in found[:limit]:
            click.echo(f"{_state(run)} {run.path.name}")
        return
    table = looks.make_table(*columns, right=("time",), whole=tuple(columns))
    for run in found[:limit]:
        state = _state(run)
        cells: dict[str, str | Text] = {
            "started": _moment(run.started),
            "pipeline": run.name,
            "state": Text(state, style=looks.style(state)),
            "time": looks.seconds(_took(run)),
            "run": Text(run.path.name, style="dim"),
        }
        table.add_row(*(cells[column] for column in columns))
    console.print(table)
    if len(found) > limit:
        click.echo(f"… and {len(found) - limit} older; see them with -n {len(found)}")


@click.command()
@click.argument("run")
@click.argument("step", required=False)
@click.option("--try", "try_number", type=click.IntRange(1), metavar="N", help="Which try.  [default: the last]")
@click.option("--all", "everything", is_flag=True, help="What Airflow says as well.")
@click.option("--path", "only_path", is_flag=True, help="Print the path of the log file.")
def logs(run: str, step: str | None, try_number: int | None, everything: bool, only_path: bool) -> None:
    """
    Print what a step of a run logged.

    RUN is "last", a pipeline, or the start or end of a run's name. Without STEP: which logs there are.
    """
    from airflow_mlops.cli.embedded import is_own, read_log, task_logs
    from airflow_mlops.cli.records import find_run

    record = find_run(run)
    found = task_logs(record.path)
    if step is None:
        if not found:
            raise CommandError(
                f"run {record.path.name} has no logs of steps; what Airflow said is in {record.path / 'airflow.log'}"
            )
        for task, index, number, _ in found:
            click.echo(f"{_step(task, index)}{f'  try {number}' if number > 1 else ''}")
        return
    path = _chosen(found, step, try_number, record.path.name)
    if only_path:
        click.echo(path)
        return
    for line in read_log(path):
        shown = (line.event, line.error) if everything or is_own(line) else (line.error,)
        for part in "\n".join(filter(None, shown)).splitlines():
            click.echo(looks.printable(part))


def _chosen(found: list[tuple[str, int, int, Path]], step: str, try_number: int | None, run: str) -> Path:
    from airflow_mlops.spec.problems import did_you_mean, one_of

    wanted = step.replace(".", "/")
    names = list(dict.fromkeys(_step(task, index) for task, index, _, _ in found))
    if wanted not in names:
        raise CommandError(
            f"run {run} has no log of step '{step}'; expected {one_of(names)}{did_you_mean(wanted, names)}"
        )
    tries = {number: path for task, index, number, path in found if _step(task, index) == wanted}
    number = try_number or max(tries)
    if number not in tries:
        raise CommandError(f"step '{step}' of run {run} has no try {number}; expected {one_of(map(str, tries))}")
    return tries[number]


def _step(task: str, index: int) -> str:
    from airflow_mlops.cli.progress import step_name

    return step_name(task, index)


def _state(run: RunRecord) -> str:
    return "running" if run.alive else looks.word(run.state)


def _moment(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%m-%d %H:%M") if moment else "?"


def _took(run: RunRecord) -> float | None:
    end = datetime.now(UTC) if run.alive else run.ended
    return (end - run.started).total_seconds() if end and run.started else None


def _document(run: RunRecord) -> dict[str, object]:
    return {
        "run": run.path.name,
        "pipeline": run.name,
        "spec": run.spec,
        "state": run.state,
        "alive": run.alive,
        "started": run.started.isoformat() if run.started else None,
        "seconds": _took(run),
        "folder": str(run.path),
    }
