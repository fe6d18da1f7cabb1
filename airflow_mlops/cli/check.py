# SPDX-License-Identifier: Apache-2.0
"""Commands that only read a spec: ``validate``, ``schema``, ``graph``. They import no Airflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airflow_mlops.cli.errors import SUCCESS, USAGE, CommandError
from airflow_mlops.cli.options import environment_option, spec_argument
from airflow_mlops.cli.spec_files import specs_in

if TYPE_CHECKING:
    from airflow_mlops.spec import Pipeline, Problem


@click.command(short_help="Check specs: every problem in one go.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@environment_option
@click.pass_context
def validate(ctx: click.Context, paths: Sequence[Path], environment: str | None) -> None:
    """
    Check specs, with all their environments: every problem in one go.

    A PATH is a spec or a folder; in a folder, every YAML file with "apiVersion: mlops/..." is a spec. Exit code 2 if
    any is bad.
    """
    good = True
    for path in _specs(paths):
        pipeline, problems = _check(path, environment)
        if problems:
            from airflow_mlops.spec.problems import render_problems

            good = False
            click.echo(render_problems(problems))
        elif pipeline is not None:
            count = sum(1 for _ in pipeline.steps())
            click.echo(f"PASS {path} ({pipeline.spec.name}, {count} step{'s' if count != 1 else ''})")
    ctx.exit(SUCCESS if good else USAGE)


def _check(path: Path, environment: str | None) -> tuple[Pipeline | None, tuple[Problem, ...]]:
    """A spec as it is without an overlay, and what is wrong with it under any; under the given one, if one is given."""
    from airflow_mlops.spec import SpecError, load_pipeline

    try:
        pipeline = load_pipeline(path, environment=environment)
    except SpecError as error:
        return None, error.problems
    problems: set[Problem] = set()
    for name in () if environment else pipeline.spec.environments:
        try:
            load_pipeline(path, environment=name)
        except SpecError as error:
            problems.update(error.problems)
    return pipeline, tuple(sorted(problems))


def _specs(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = list(specs_in(path))
        if not found:
            raise CommandError(f"{path}: no spec in this folder; expected a YAML file with 'apiVersion: mlops/v1'")
        yield from found


@click.command(short_help="Print the JSON Schema of a spec.")
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    import json

    from airflow_mlops.spec import spec_schema

    click.echo(json.dumps(spec_schema(), indent=2, ensure_ascii=False))


@click.command(short_help="Print the steps and what they hand to each other.")
@spec_argument
@environment_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid"]),
    default="text",
    show_default=True,
    help="Form of the graph.",
)
def graph(spec: Path, environment: str | None, form: str) -> None:
    """Print the steps of a spec and what they hand to each other."""
    from airflow_mlops.spec import load_pipeline, to_mermaid, to_text

    pipeline = load_pipeline(spec, environment=environment)
    click.echo((to_mermaid if form == "mermaid" else to_text)(pipeline).rstrip("\n"))
