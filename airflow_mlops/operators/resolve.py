# SPDX-License-Identifier: Apache-2.0
"""Resolve: look a step's inputs up, give names to what templates may say, and render what is to be run."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import Artifact, ArtifactError, StepReference, Store, read_committed
from airflow_mlops.operators.artifact_arg import ResolvedArgument
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.models import registered, registry_of
from airflow_mlops.operators.program import ModelInput, StepInput
from airflow_mlops.operators.states import SUCCESS, states_of
from airflow_mlops.spec.model_names import SCHEME

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.contract import Layout
    from airflow_mlops.spec.parts import Output

STAGES = ("copy", "none")


@dataclass(slots=True)
class ResolvedInputs:
    """
    What the inputs of a step turned out to be.

    :param artifacts: artifact inputs by name
    :param parameters: values of parameter inputs by name
    :param unstaged: names of the artifacts that the program gets as a URI alone
    """

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    unstaged: set[str] = field(default_factory=set)

    def paths(self, layout: Layout) -> dict[str, str]:
        """Paths of the staged artifacts, as the program sees them."""
        return {
            name: layout.input(name, artifact.file)
            for name, artifact in self.artifacts.items()
            if name not in self.unstaged
        }


@dataclass(frozen=True, slots=True)
class InputArgument:
    """An input as an operator is given it, normalised: where it comes from, and how it is handed over."""

    source: Any
    optional: bool = False
    stage: str = "copy"


def normalise_input(name: str, value: Any) -> InputArgument:
    """
    Read the short or long form of an input.

    :raises BadStep: if it is neither
    """
    if isinstance(value, StepInput | ModelInput):
        return InputArgument(value, value.optional, value.stage)
    if isinstance(value, Mapping):
        unknown = set(value) - {"from", "optional", "stage"}
        stage = value.get("stage", "copy")
        if unknown or "from" not in value or stage not in STAGES:
            raise BadStep(
                f"input '{name}' is {dict(value)!r}; expected {{'from': step.artifact('output'), 'optional': False, 'stage': 'copy'}}, "
                f"where stage is one of {', '.join(STAGES)}"
            )
        return InputArgument(value["from"], bool(value.get("optional", False)), stage)
    return InputArgument(value)


def resolve_inputs(inputs: Mapping[str, Any], *, ti: Any, attempt: Attempt) -> ResolvedInputs:
    """
    Look up what the producing steps committed, and which versions registered models have now. Each manifest is read and checked once,
    however many inputs come from it.

    :param inputs: inputs by name, as the operator has them after Airflow rendered them
    :raises BadStep: if an input is not there, or its reference does not hold
    """
    resolved = ResolvedInputs()
    references: dict[str, StepReference | None] = {}
    arguments = {name: normalise_input(name, value) for name, value in inputs.items()}
    skipped = _without_result(arguments.values(), ti)
    # Opened by the first registered model: it may be a server's, with a connection to be looked up.
    registry = functools.cache(functools.partial(registry_of, attempt))
    for name, argument in arguments.items():
        if argument.stage == "none":
            resolved.unstaged.add(name)
        if (model := model_reference(argument.source)) is not None:
            found = registered(name, model, registry(), optional=argument.optional)
            resolved.artifacts.update({name: found} if found is not None else {})
            continue
        task_id, output, document = _look_up(name, argument.source, ti)
        if task_id not in references:
            references[task_id] = None if task_id in skipped else _checked_reference(task_id, document, attempt.store)
        _take(resolved, name, task_id, output, references[task_id], optional=argument.optional)
    resolved.unstaged &= resolved.artifacts.keys()
    return resolved


def _take(
    resolved: ResolvedInputs, name: str, task_id: str, output: str, reference: StepReference | None, *, optional: bool
) -> None:
    """Make an input what a step has handed on, if it has."""
    if reference is None:
        if optional:
            return
        raise BadStep(
            f"input '{name}' reads {task_id}.{output}, but '{task_id}' handed nothing on in this run "
            "(it was skipped, marked as success by hand, or its record was deleted); clear it to run it again"
        )
    if output in reference.artifacts:
        resolved.artifacts[name] = reference.artifacts[output]
    elif output in reference.parameters:
        resolved.parameters[name] = reference.parameters[output]
    elif not optional:
        made = ", ".join([*reference.artifacts, *reference.parameters]) or "nothing"
        raise BadStep(f"input '{name}' reads {task_id}.{output}, which '{task_id}' did not make; it made {made}")


def model_reference(source: Any) -> str | None:
    """The registered model that an input names; ``None`` if it names something else."""
    if isinstance(source, ModelInput):
        return source.reference
    return source if isinstance(source, str) and source.startswith(SCHEME) else None


def _without_result(arguments: Collection[InputArgument], ti: Any) -> set[str]:
    """
    Of the tasks that a step can do without, those that did not end well. What they handed on before they were cleared does not count.
    """
    optional = {argument.source.task_id for argument in arguments if argument.optional and _names_task(argument.source)}
    return {task for task, state in states_of(ti, optional).items() if state not in (SUCCESS, None)}


def _names_task(source: Any) -> bool:
    return isinstance(source, StepInput | ResolvedArgument)


def _look_up(name: str, source: Any, ti: Any) -> tuple[str, str, Any]:
    if isinstance(source, StepInput):
        return source.task_id, source.output, ti.xcom_pull(task_ids=source.task_id)
    if isinstance(source, ResolvedArgument):
        return source.task_id, source.output, source.reference
    raise BadStep(
        f"input '{name}' is {source!r}; expected another step's output, such as split.artifact('train'), or 'models:churn@champion'"
    )


def _checked_reference(task_id: str, document: Any, store: Store) -> StepReference | None:
    if document is None:
        return None
    try:
        reference = StepReference.from_json(document)
        read_committed(store, reference)
    except ArtifactError as error:
        raise BadStep(f"what '{task_id}' handed on does not hold: {error}") from error
    return reference


def template_names(
    layout: Layout,
    *,
    inputs: ResolvedInputs,
    outputs: Mapping[str, Output],
    params: Mapping[str, Any],
    context: Mapping[str, Any],
    try_number: int,
) -> dict[str, Any]:
    """The names that a step's templates may use, with their values, as nested mappings."""
    paths = inputs.paths(layout)
    artifacts: dict[str, Any] = {
        name: {
            "uri": artifact.uri,
            "digest": artifact.digest,
            "metadata": dict(artifact.metadata),
            **({"path": paths[name]} if name in paths else {}),
        }
        for name, artifact in inputs.artifacts.items()
    }
    names: dict[str, Any] = {
        "params": dict(params),
        "inputs": {**artifacts, **inputs.parameters},
        "outputs": {name: {"path": layout.output(name, output)} for name, output in outputs.items()},
        "run": {**run_facts(context), "try": try_number},
    }
    moment = _moment(context["dag_run"])
    names.update({"ds": moment.date().isoformat(), "ts": moment.isoformat()} if moment else {})
    return names


def as_attributes(names: Mapping[str, Any]) -> dict[str, Any]:
    """
    Names for Jinja, where a dot looks for attributes first: an input that is called ``items`` must not be a method of a mapping.

    :param names: as :func:`template_names` gives them; ``inputs`` and ``outputs`` have a second level
    """
    return {
        name: SimpleNamespace(
            **{
                key: SimpleNamespace(**value)
                if isinstance(value, dict) and ("uri" in value or "path" in value)
                else value
                for key, value in values.items()
            }
        )
        for name, values in names.items()
    }


def run_facts(context: Mapping[str, Any]) -> dict[str, Any]:
    """Id, date and data interval of the run, as templates and ``step.json`` show them. A run by hand has a date, but no interval."""
    run = context["dag_run"]
    moment = _moment(run)
    return {
        "id": run.run_id,
        "date": moment.date().isoformat() if moment else None,
        "interval_start": _iso(getattr(run, "data_interval_start", None)),
        "interval_end": _iso(getattr(run, "data_interval_end", None)),
    }


def _moment(run: Any) -> datetime | None:
    """What a run is for: its logical date; a run by hand may have none, and is for the time it was asked for."""
    return getattr(run, "logical_date", None) or getattr(run, "run_after", None)


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment is not None else None
