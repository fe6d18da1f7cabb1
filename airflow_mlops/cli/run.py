# SPDX-License-Identifier: Apache-2.0
"""``run``: a pipeline from its spec to its results, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from airflow_mlops.cli.options import environment_option, params_option, runtime_option, spec_argument

Command = TypeVar("Command", bound=Callable[..., Any])


def read_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """
    A duration as specs write it: ``90s``, ``15m``, ``1h30m``, ``2d``.

    :raises BadParameter: if it is none
    """
    from airflow_mlops.spec.quantities import parse_duration

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"'{value}': {error}", ctx, param) from error


def manner_options(command: Command) -> Command:
    """How a run goes on and what is shown of it."""
    for option in reversed(
        (
            click.option(
                "--jobs",
                type=click.IntRange(1, 1000),
                metavar="N",
                help="Steps that run at a time.  [default: cores, at least 4]",
            ),
            click.option(
                "--store", metavar="URL", help="Folder or URL for artifacts.  [default: ~/.airflow-mlops/store]"
            ),
            click.option(
                "--timeout", metavar="TIME", callback=read_duration, help="Stop the run after this time: 90s, 15m, 2h."
            ),
            click.option(
                "--approve",
                metavar="STEP",
                multiple=True,
                help="Approve what a step of kind approve will ask, or all that such steps ask: all.",
            ),
            click.option("--reject", metavar="STEP", multiple=True, help="Reject it."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else."),
        )
    ):
        command = option(command)
    return command


@click.command()
@spec_argument
@params_option
@environment_option
@runtime_option
@manner_options
@click.pass_context
def run(
    ctx: click.Context,
    spec: Path,
    params: Sequence[str],
    environment: str | None,
    runtime: str | None,
    jobs: int | None,
    store: str | None,
    timeout: timedelta | None,
    approve: tuple[str, ...],
    reject: tuple[str, ...],
    as_json: bool,
) -> None:
    """
    Run a pipeline on this machine and show what it made.

    Airflow's own scheduler runs the steps, with the operators that an Airflow in production would use. Ctrl-C stops
    them. What a step of kind approve asks is answered on the terminal.

    Exit codes: 0 success, 1 the pipeline failed, 2 bad usage or spec, 130 stopped.
    """
    from airflow_mlops.cli.execute import Job, Manner, execute
    from airflow_mlops.cli.params import read_params
    from airflow_mlops.spec import load_pipeline

    pipeline = load_pipeline(spec, environment=environment, runtime=runtime)
    job = Job(pipeline, read_params(pipeline, params), environment, runtime)
    ctx.exit(execute(job, Manner(jobs, store, timeout, as_json, approve, reject)))
