# SPDX-License-Identifier: Apache-2.0
"""
``step``: one step alone, with inputs from an earlier run or from files.

The step is put into a spec of its own, in which ``import`` steps stand where others made its inputs. It is run as any
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.options import environment_option, params_option, runtime_option, spec_argument
from airflow_mlops.cli.run import manner_options
from airflow_mlops.spec.parts import PARAMETER_TYPES

if TYPE_CHECKING:
    from airflow_mlops.cli.alone import Source
    from airflow_mlops.spec import Pipeline, Step


@click.command()
@spec_argument
@click.argument("name")
@click.option("--from-run", metavar="RUN", help="Take inputs, parameters and environment from an earlier run.")
@click.option(
    "--input", "inputs", metavar="NAME=PATH", multiple=True, help="Take an input from a file or folder, or from a URL."
)
@params_option
@environment_option
@runtime_option
@manner_options
@click.pass_context
def step(
    ctx: click.Context,
    spec: Path,
    name: str,
    from_run: str | None,
    inputs: Sequence[str],
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
    Run one step alone.

    Its inputs come from an earlier run (--from-run last), or are given: --input train=data/train.csv, --input rows=42
    for a parameter.
    """
    from airflow_mlops.cli.alone import from_manifests, order_of, write_spec
    from airflow_mlops.cli.execute import Job, Manner, execute
    from airflow_mlops.cli.params import read_params
    from airflow_mlops.cli.render import find_step
    from airflow_mlops.spec import load_pipeline

    pipeline = load_pipeline(spec, environment=environment, runtime=runtime)
    order = None
    if from_run is not None:
        order = order_of(pipeline, from_run)
        from_run = order.run_id
        if environment is None and order.environment is not None:
            environment = order.environment
            pipeline = load_pipeline(spec, environment=environment, runtime=runtime)
    chosen = find_step(pipeline, name)
    _check_kind(chosen)
    sources: dict[str, Source] = {}
    values: dict[str, Any] = {}
    if order is not None:
        sources, values = from_manifests(pipeline, chosen, order)
    sources.update(_given(chosen, inputs))
    values.update(read_params(pipeline, params, need_all=False))
    _require_all(chosen, sources, from_run)
    missing = [param for param in chosen.spec.params if param not in values and not pipeline.params[param].has_default]
    if missing:
        raise CommandError(f"parameter '{missing[0]}' has no default; give it with -p {missing[0]}=VALUE")
    job = Job(
        _only(pipeline, chosen),
        values,
        environment,
        runtime,
        lambda folder: write_spec(folder, pipeline, chosen, sources, values),
        "/".join(chosen.path),
    )
    ctx.exit(execute(job, Manner(jobs, store, timeout, as_json, approve, reject)))


def _check_kind(chosen: Step) -> None:
    """Refuse what makes no sense, or harm, without the steps around it."""
    kind = chosen.spec.kind
    if kind == "register":
        raise CommandError(
            f"step '{chosen.task_id}' is of kind register: alone it would register what its gates have not let through; run the pipeline, or "
            "change what is used with airflow-mlops models"
        )
    if kind == "pick":
        raise CommandError(
            f"step '{chosen.task_id}' is of kind pick, which compares steps of its run; expected another step"
        )


def _only(pipeline: Pipeline, chosen: Step) -> Pipeline:
    """The pipeline as far as it is run."""
    from dataclasses import replace

    from airflow_mlops.spec import Group

    return replace(pipeline, root=Group((), (chosen,)))


def _given(chosen: Step, words: Sequence[str]) -> dict[str, Source]:
    from airflow_mlops.cli.alone import source_of
    from airflow_mlops.spec.problems import did_you_mean, one_of

    found: dict[str, Source] = {}
    for text in words:
        name, equals, value = text.partition("=")
        if not equals or (not value and chosen.inputs.get(name) and chosen.inputs[name].type != "string"):
            raise CommandError(f"--input {text}: expected NAME=PATH")
        if name not in chosen.inputs:
            near = did_you_mean(name, chosen.inputs)
            raise CommandError(
                f"--input {text}: step '{chosen.task_id}' has no input '{name}'; expected {one_of(chosen.inputs)}{near}"
            )
        found[name] = source_of(chosen, name, value)
    return found


def _require_all(chosen: Step, sources: dict[str, Source], from_run: str | None) -> None:
    missing = [
        name for name, item in chosen.inputs.items() if name not in sources and not item.optional and item.model is None
    ]
    if missing:
        options = " ".join(
            f"--input {name}={'VALUE' if chosen.inputs[name].type in PARAMETER_TYPES else 'PATH'}" for name in missing
        )
        wanted = ", ".join(chosen.inputs[name].label for name in missing)
        if from_run is not None:
            raise CommandError(
                f"step '{chosen.task_id}' reads {wanted}, which run {from_run} did not make; give {options}"
            )
        raise CommandError(f"step '{chosen.task_id}' reads {wanted}; give --from-run RUN (such as last), or {options}")
