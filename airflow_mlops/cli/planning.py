# SPDX-License-Identifier: Apache-2.0
"""What a step would be started with, as far as its spec says it; what a run alone knows has placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from airflow_mlops.cli.command_lines import SCRATCH, STORE, Planned
from airflow_mlops.cli.errors import CommandError
from airflow_mlops.operators.contract import CONTAINER_ROOT, Layout, environment
from airflow_mlops.spec import Output, Pipeline, Step, TemplateError
from airflow_mlops.spec.templates import render as render_template


def plan(pipeline: Pipeline, step: Step, values: Mapping[str, Any]) -> Planned:
    """
    What a step would be started with.

    :raises CommandError: if a template cannot be rendered without a run
    """
    names = _names_of(pipeline, step, values)

    def rendered(text: str) -> str:
        try:
            return render_template(text, names)
        except TemplateError as error:
            raise CommandError(f"step '{step.task_id}': {text!r} cannot be rendered without a run: {error}") from error

    return _planned(pipeline, step, values, rendered)


def as_written(pipeline: Pipeline, step: Step) -> Planned:
    """What a step would be started with, but for its templates: they stand as they are, for whoever looks at all else."""
    return _planned(pipeline, step, {}, lambda text: text)


def uri_of_input(pipeline: Pipeline, step: Step, name: str, values: Mapping[str, Any]) -> str | None:
    """Where an artifact input lies that no program has made: imported, or left by an operator; ``None`` if a run alone knows."""
    item = step.inputs[name]
    if item.model is not None:
        return None
    producer = pipeline.step(item.step)
    text = producer.spec.outputs[item.output].uri
    if text is None:
        return None
    try:
        uri = pipeline.uri_of(render_template(text, _names_of(pipeline, producer, values)))
    except TemplateError:
        return None
    return uri if "://" in uri else None


def _planned(pipeline: Pipeline, step: Step, values: Mapping[str, Any], rendered: Callable[[str], str]) -> Planned:
    layout = _layout(step)
    files = _input_files(pipeline, step)
    paths = _input_paths(step, layout, files)
    secret_files = {
        name: f"{layout.secrets}/{name}" for name, secret in step.spec.secrets.items() if secret.as_ == "file"
    }
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
                parameters=_parameters(step, values),
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


def _layout(step: Step) -> Layout:
    return Layout(SCRATCH if step.spec.runtime == "process" else CONTAINER_ROOT)


def _input_files(pipeline: Pipeline, step: Step) -> dict[str, str | None]:
    """The artifact inputs, with the file name that the producer gives them, if it gives one."""
    return {
        name: _input_file(pipeline, step, name) for name, item in step.inputs.items() if not _is_parameter(item.type)
    }


def _input_paths(step: Step, layout: Layout, files: Mapping[str, str | None]) -> dict[str, str]:
    return {name: layout.input(name, files[name]) for name in files if step.inputs[name].stage != "none"}


def _parameters(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: values[name] for name in step.spec.params if name in values},
        **{name: f"<{item.label}>" for name, item in step.inputs.items() if _is_parameter(item.type)},
    }


def _names_of(pipeline: Pipeline, step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    layout, files = _layout(step), _input_files(pipeline, step)
    paths = _input_paths(step, layout, files)
    return _template_names(step, layout, paths, files, {**values, **_parameters(step, values)})


def _template_names(
    step: Step, layout: Layout, paths: Mapping[str, str], files: Mapping[str, str | None], values: Mapping[str, Any]
) -> dict[str, Any]:
    artifacts = {
        name: {
            "uri": f"<uri of {item.label}>",
            "digest": f"<digest of {item.label}>",
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
    if item.model is not None:
        return f"<file of {item.label}>"
    producer = pipeline.step(item.step).spec
    output = producer.outputs.get(item.output)
    return output.file if output else None


def _input_source(pipeline: Pipeline, step: Step, name: str, file: str | None) -> str:
    """Where an input would lie before it is brought to the step."""
    item = step.inputs[name]
    if item.model is not None:
        return f"{STORE}/{item.label}"
    producer = pipeline.step(item.step).spec
    if producer.kind == "import":
        return unquote(pipeline.uri_of(producer.uri or "").removeprefix("file://"))
    folder = f"{STORE}/{'/'.join(item.step)}/outputs/{item.output}"
    return f"{folder}/{file}" if file else folder
