# SPDX-License-Identifier: Apache-2.0
"""A spec for one step alone: where its inputs come from in place of the steps that make them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.errors import CommandError
from airflow_mlops.spec.forms import STEP_NAME
from airflow_mlops.spec.models import API_VERSION
from airflow_mlops.spec.parts import PARAMETER_TYPES

if TYPE_CHECKING:
    from airflow_mlops.cli.records import Order
    from airflow_mlops.spec import Pipeline, Step

SPEC_FILE = "step.yaml"
"""The spec of the one step, in the folder of its run. JSON, which is YAML as well."""


@dataclass(frozen=True)
class Source:
    """
    Where an input comes from.

    :param uri: of an artifact
    :param value: of a parameter
    """

    type: str
    uri: str | None = None
    value: Any = None


def source_of(step: Step, name: str, text: str) -> Source:
    """
    An input as the command line gives it.

    :raises CommandError: if there is no such file, or the value is not of the input's type
    """
    type_ = step.inputs[name].type
    if type_ in PARAMETER_TYPES:
        return Source(type_, value=_parameter(name, type_, text))
    if "{{" in text:
        raise CommandError(f"--input {name}={text}: holds a template; expected the path or URL itself")
    if "://" in text:
        return Source(type_, uri=text)
    path = Path(text).absolute()
    if not path.exists():
        raise CommandError(f"--input {name}={text}: is not there; expected a file or folder")
    return Source(type_, uri=path.as_uri())


def order_of(pipeline: Pipeline, run: str) -> Order:
    """
    An earlier run of a pipeline.

    :raises CommandError: if there is no such run, or it was of another pipeline
    """
    from airflow_mlops.cli.records import find_run, read_order

    order = _last_whole(pipeline) if run == "last" else read_order(find_run(run).path)
    if order.pipeline != pipeline.spec.name:
        raise CommandError(
            f"run {order.run_id} was of pipeline '{order.pipeline}'; expected one of '{pipeline.spec.name}'"
        )
    return order


def from_manifests(pipeline: Pipeline, step: Step, order: Order) -> tuple[dict[str, Source], dict[str, Any]]:
    """What an earlier run committed of a step's inputs, and the values of the parameters that it had."""
    from airflow_mlops.cli.results import place_of, read_manifest
    from airflow_mlops.cli.session import open_store

    store = open_store(order.store)
    made = {name: item for name, item in step.inputs.items() if item.model is None}
    manifests = {item.step: read_manifest(store, place_of(order, ".".join(item.step))) for item in made.values()}
    sources = {}
    for name, item in made.items():
        manifest = manifests[item.step]
        if manifest is not None and item.output in manifest.artifacts:
            sources[name] = Source(item.type, uri=manifest.artifacts[item.output].uri)
        elif manifest is not None and item.output in manifest.parameters:
            sources[name] = Source(item.type, value=manifest.parameters[item.output])
    return sources, {name: value for name, value in order.params.items() if name in pipeline.params}


def _last_whole(pipeline: Pipeline) -> Order:
    """
    The newest run of all of a pipeline: a run of one step is no source of what other steps make.

    :raises CommandError: if there is none
    """
    from airflow_mlops.cli.embedded import list_runs
    from airflow_mlops.cli.records import FILE, read_order

    for run in list_runs():
        if run.name == pipeline.spec.name and (run.path / FILE).exists():
            order = read_order(run.path)
            if order.step is None:
                return order
    raise CommandError(f"no run of pipeline '{pipeline.spec.name}'; start one with airflow-mlops run {pipeline.file}")


def write_spec(
    folder: Path, pipeline: Pipeline, step: Step, sources: Mapping[str, Source], values: Mapping[str, Any]
) -> Path:
    """
    Write the spec into the folder of its run: the step, with environment, defaults and aliases of the pipeline applied.

    :param values: values of parameters, which become the defaults
    :return: the spec
    :raises SpecError: if the step cannot stand alone, as when it names an optional input that it is not given
    """
    from airflow_mlops.spec import load_pipeline

    names = {name: _stand_in_name(step, name, number) for number, name in enumerate(sources, start=1)}
    spec = step.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if step.spec.uri is not None:
        spec["uri"] = pipeline.uri_of(step.spec.uri)
    inputs = {
        name: {**spec["inputs"][name], "from": f"{names[name]}.{source.type if source.uri is not None else 'value'}"}
        for name, source in sources.items()
    }
    inputs |= {
        name: spec["inputs"][name]
        for name, item in step.inputs.items()
        if item.model is not None and name not in sources
    }
    if inputs:
        spec["inputs"] = inputs
    else:
        spec.pop("inputs", None)
    spec.pop("needs", None)
    if step.spec.process.venv is not None:
        spec["process"]["venv"] = str(pipeline.path_of(step.spec.process.venv))
    document = {
        "apiVersion": API_VERSION,
        "name": pipeline.spec.name,
        "description": f"Step {'/'.join(step.path)} of {pipeline.file} alone.",
        "params": {name: _param(pipeline, name, values) for name in pipeline.params},
        **({"source": str(pipeline.source.resolve())} if pipeline.source is not None else {}),
        "steps": [*(_stand_in(names[name], name, source, folder) for name, source in sources.items()), spec],
    }
    path = folder / SPEC_FILE
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    load_pipeline(path)
    return path


def _stand_in(step: str, name: str, source: Source, folder: Path) -> dict[str, Any]:
    """The step that an input comes from. A parameter's value is copied from a file, so that no template sees it."""
    if source.uri is not None:
        return {"name": step, "kind": "import", "description": name, "uri": source.uri, "type": source.type}
    file = folder / "values" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        # One final newline of a string is not part of its value.
        f"{source.value}\n" if isinstance(source.value, str) else json.dumps(source.value, ensure_ascii=False),
        encoding="utf-8",
    )
    return {
        "name": step,
        "kind": "container",
        "runtime": "process",
        "description": name,
        "command": ["cp", str(file), "{{ outputs.value.path }}"],
        "outputs": {"value": source.type},
    }


def _stand_in_name(step: Step, name: str, number: int) -> str:
    """The name of the step that an input comes from: the input's, as far as a step may be called so."""
    prefix = "input-" if not step.spec.name.startswith("input-") else "from-"
    whole = prefix + name.replace("_", "-")
    return whole if re.match(STEP_NAME, whole) else f"{prefix}{number}"


def _param(pipeline: Pipeline, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    param = pipeline.params[name]
    document = dict(param.schema)
    if name in values:
        document["default"] = values[name]
    elif param.has_default:
        document["default"] = param.default
    return document


def _parameter(name: str, type_: str, text: str) -> Any:
    from airflow_mlops.cli.params import read_value
    from airflow_mlops.spec import Param

    schema = {"type": {"list": "array"}.get(type_, type_)}
    try:
        return read_value(Param(schema, has_default=False), text)
    except ValueError as error:
        raise CommandError(f"--input {name}={text}: {error}") from None
