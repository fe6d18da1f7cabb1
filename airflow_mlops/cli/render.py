# SPDX-License-Identifier: Apache-2.0
"""``render``: the command line that a step would be run by, to be read or pasted; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click

from airflow_mlops.cli.command_lines import SCRATCH, STORE, Planned, docker_line, process_line
from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.options import environment_option, params_option, runtime_option, spec_argument
from airflow_mlops.cli.params import read_params, with_defaults
from airflow_mlops.operators.contract import CONTAINER_ROOT, Layout, environment
from airflow_mlops.spec import Output, Pipeline, Step, TemplateError, load_pipeline
from airflow_mlops.spec.models import PROGRAM_KINDS
from airflow_mlops.spec.templates import render as render_template


@click.command()
@spec_argument
@click.argument("step")
@params_option
@environment_option
@runtime_option
def render(spec: Path, step: str, params: Sequence[str], environment: str | None, runtime: str | None) -> None:
    """
    Print the command line that a step is run by.

    What only a run knows is shown as a placeholder: <store>, <run> and <scratch> for where files lie, <step.output> for
    the value of an output.
    """
    pipeline = load_pipeline(spec, environment=environment, runtime=runtime)
    chosen = find_step(pipeline, step)
    if chosen.spec.kind not in PROGRAM_KINDS:
        raise CommandError(
            f"step '{step}' is of kind {chosen.spec.kind}, which runs no program; expected a step that runs one"
        )
    if chosen.spec.runtime == "kubernetes":
        raise CommandError(
            f"step '{step}' runs in a pod, which is no command line; expected --runtime docker, which shows the same program, or process"
        )
    values = with_defaults(pipeline, read_params(pipeline, params))
    planned = plan(pipeline, chosen, values)
    if chosen.spec.runtime == "process":
        click.echo(process_line(planned))
        return
    line, unsaid = docker_line(planned)
    if unsaid:
        click.echo(f"not part of the command line: docker {', '.join(unsaid)}", err=True)
    click.echo(line)


def find_step(pipeline: Pipeline, name: str) -> Step:
    """
    A step by its path.

    :raises CommandError: if there is none; the nearest is named
    """
    from airflow_mlops.spec.problems import did_you_mean

    try:
        return pipeline.step(name)
    except KeyError as error:
        near = did_you_mean(name, ["/".join(step.path) for step in pipeline.steps()])
        raise CommandError(f"{pipeline.file}: {error.args[0]}{near}") from None


def plan(pipeline: Pipeline, step: Step, values: Mapping[str, Any]) -> Planned:
    """
    What a step would be started with.

    :raises CommandError: if a template cannot be rendered without a run
    """
    layout = Layout(SCRATCH if step.spec.runtime == "process" else CONTAINER_ROOT)
    files = {
        name: _input_file(pipeline, step, name) for name, item in step.inputs.items() if not _is_parameter(item.type)
    }
    paths = {name: layout.input(name, files[name]) for name in files if step.inputs[name].stage != "none"}
    parameters = {
        **{name: values[name] for name in step.spec.params if name in values},
        **{
            name: f"<{'/'.join(item.step)}.{item.output}>"
            for name, item in step.inputs.items()
            if _is_parameter(item.type)
        },
    }
    names = _template_names(step, layout, paths, files, {**values, **parameters})
    secret_files = {
        name: f"{layout.secrets}/{name}" for name, secret in step.spec.secrets.items() if secret.as_ == "file"
    }

    def rendered(text: str) -> str:
        try:
            return render_template(text, names)
        except TemplateError as error:
            raise CommandError(f"step '{step.task_id}': {text!r} cannot be rendered without a run: {error}") from error

    return Planned(
        step=step,
        layout=layout,
        argv=[rendered(word) for word in step.spec.command],
        args=[rendered(word) for word in step.spec.args],
        image=rendered(step.spec.image) if step.spec.image else None,
        environment={
            **environment(
                layout,
                input_paths=paths,
                parameters=parameters,
                outputs=step.spec.outputs,
                secret_files=secret_files,
                checkpoint=step.spec.checkpoint,
            ),
            **{name: rendered(text) for name, text in step.spec.env.items()},
        },
        inputs={
            f"{name}/{file}" if file else name: _input_source(pipeline, step, name, file)
            for name, file in files.items()
            if name in paths
        },
        has_source=pipeline.source is not None,
        venv=str(pipeline.path_of(step.spec.process.venv)) if step.spec.process.venv else None,
    )


def _template_names(
    step: Step, layout: Layout, paths: Mapping[str, str], files: Mapping[str, str | None], values: Mapping[str, Any]
) -> dict[str, Any]:
    artifacts = {
        name: {
            "uri": f"<uri of {'/'.join(item.step)}.{item.output}>",
            "digest": f"<digest of {'/'.join(item.step)}.{item.output}>",
            "metadata": {},
            **({"path": paths[name]} if name in paths else {}),
        }
        for name, item in step.inputs.items()
        if name in files
    }
    return {
        "params": {name: value for name, value in values.items() if name not in step.inputs},
        "inputs": {**artifacts, **{name: values[name] for name in step.inputs if name not in files}},
        "outputs": {name: {"path": layout.output(name, output)} for name, output in step.spec.outputs.items()},
        "run": {
            "id": "<run>",
            "date": "<date>",
            "interval_start": "<interval start>",
            "interval_end": "<interval end>",
            "try": 1,
        },
        "ds": "<date>",
        "ts": "<timestamp>",
    }


def _is_parameter(type_: str) -> bool:
    return Output.model_validate(type_).is_parameter


def _input_file(pipeline: Pipeline, step: Step, name: str) -> str | None:
    """The file name that the producer gives an input, if it gives one."""
    item = step.inputs[name]
    producer = pipeline.step(item.step).spec
    output = producer.outputs.get(item.output)
    return output.file if output else None


def _input_source(pipeline: Pipeline, step: Step, name: str, file: str | None) -> str:
    """Where an input would lie before it is brought to the step."""
    item = step.inputs[name]
    producer = pipeline.step(item.step).spec
    if producer.kind == "import":
        return unquote(pipeline.uri_of(producer.uri or "").removeprefix("file://"))
    folder = f"{STORE}/{'/'.join(item.step)}/outputs/{item.output}"
    return f"{folder}/{file}" if file else folder
