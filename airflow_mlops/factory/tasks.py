# SPDX-License-Identifier: Apache-2.0
"""From a step of a spec to an Airflow task."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.program import ModelInput, Program, StepInput
from airflow_mlops.operators.version_compat import retry_exponential_backoff

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG, BaseOperator, TaskGroup

    from airflow_mlops.factory.callbacks import CallbackFactory
    from airflow_mlops.spec.graph import Input, Pipeline, Step
    from airflow_mlops.spec.models import StepSpec

OPERATOR_MODULES = {
    "process": "airflow_mlops.operators.process",
    "docker": "airflow_mlops.operators.docker",
    "kubernetes": "airflow_mlops.operators.kubernetes",
}
"""Where the operators of a runtime are. A module is imported by the first step that needs it: a DAG of processes loads no Docker client."""


KINDS_WITHOUT_PROGRAM = {
    "import": ("references", "ImportOperator"),
    "operator": ("references", "WrappedOperator"),
    "gate": ("gate", "GateOperator"),
    "pick": ("pick", "PickOperator"),
    "approve": ("approve", "ApproveOperator"),
    "register": ("register", "RegisterOperator"),
}
"""Kinds whose steps run no program of ours, with module and class of their operator."""


class TaskFactory:
    """
    Makes the tasks of one pipeline.

    :param pipeline: the pipeline
    :param dag: the DAG that the tasks go into
    :param callbacks: makes their callbacks
    """

    def __init__(self, pipeline: Pipeline, dag: DAG, callbacks: CallbackFactory) -> None:
        self._pipeline = pipeline
        self._dag = dag
        self._classes: dict[tuple[str, str], type[BaseOperator]] = {}
        self._source = str(pipeline.source) if pipeline.source is not None else None
        self._callbacks = callbacks

    def make(self, step: Step, task_group: TaskGroup | None) -> Any:
        """The task of a step, an operator."""
        spec = step.spec
        arguments = self._common(step)
        arguments["dag"] = self._dag
        if task_group is not None:
            arguments["task_group"] = task_group
        if spec.kind in KINDS_WITHOUT_PROGRAM:
            return self._without_program(step, arguments)
        arguments.update(self._program_arguments(step))
        if spec.runtime == "process":
            venv = spec.process.venv
            return self._class("process", spec.kind)(
                venv=str(self._pipeline.path_of(venv)) if venv is not None else None, **arguments
            )
        if spec.runtime == "kubernetes":
            return self._class("kubernetes", spec.kind)(pod=spec.pod or None, **arguments, **spec.kubernetes)
        return self._class("docker", spec.kind)(**arguments, **spec.docker)

    def _without_program(self, step: Step, arguments: dict[str, Any]) -> Any:
        spec = step.spec
        operator = self._class("none", spec.kind)
        if spec.kind == "import":
            place = {"asset": spec.asset} if spec.uri is None else {"uri": self._pipeline.uri_of(spec.uri)}
            return operator(**place, type=spec.type, digest=spec.digest or "content", **arguments)
        if spec.kind == "gate":
            return operator(require=spec.require, on_fail=spec.on_fail, no_champion=spec.no_champion, **arguments)
        if spec.kind == "register":
            return operator(model=spec.model, alias=spec.alias, description=spec.description, **arguments)
        if spec.kind == "pick":
            return operator(by=spec.by, choice=step.choice, outputs=spec.outputs, **arguments)
        if spec.kind == "approve":
            return operator(**_question(spec), **arguments)
        call = spec.operator
        assert call is not None  # noqa: S101 - the kind demands it
        return operator(class_path=call.class_, arguments=call.arguments, outputs=spec.outputs, **arguments)

    def _class(self, runtime: str, kind: str) -> Any:
        found = self._classes.get((runtime, kind))
        if found is None:
            if runtime == "none":
                module, name = KINDS_WITHOUT_PROGRAM[kind]
                found = getattr(import_module(f"airflow_mlops.operators.{module}"), name)
            else:
                name = f"{runtime.capitalize()}{kind.capitalize()}Operator"
                found = getattr(import_module(OPERATOR_MODULES[runtime]), name)
            self._classes[runtime, kind] = found
        return found

    def _common(self, step: Step) -> dict[str, Any]:
        """What every step has, whatever it runs."""
        spec = step.spec
        arguments: dict[str, Any] = {
            "task_id": spec.name,
            "retries": spec.retries,
            "infra_retries": spec.infra_retries,
            "retry_delay": spec.backoff.initial,
            "max_retry_delay": spec.backoff.maximum,
            "retry_exponential_backoff": retry_exponential_backoff(spec.backoff.factor),
            "program": Program(
                spec.image,
                spec.command,
                spec.args,
                spec.env,
                spec.params,
                {name: _wire(item) for name, item in step.inputs.items()},
            ),
        }
        if spec.description:
            arguments["doc_md"] = spec.description
        if spec.display_name:
            arguments["task_display_name"] = spec.display_name
        if spec.pool is not None:
            arguments["pool"] = spec.pool
        if spec.queue is not None:
            arguments["queue"] = spec.queue
        if spec.pool_slots != 1:
            arguments["pool_slots"] = spec.pool_slots
        if spec.priority_weight != 1:
            arguments["priority_weight"] = spec.priority_weight
        if spec.callbacks.model_fields_set:
            arguments.update(self._callbacks.of(spec.callbacks, step))
        if self._pipeline.spec.owner:
            arguments["owner"] = self._pipeline.spec.owner
        if any(item.optional and item.model is None for item in step.inputs.values()):
            arguments["trigger_rule"] = "none_failed"
        return arguments

    def _program_arguments(self, step: Step) -> dict[str, Any]:
        spec = step.spec
        return {
            "outputs": spec.outputs,
            "secrets": spec.secrets,
            "source": self._source,
            "step_resources": spec.resources,
            "step_timeout": spec.timeout,
            "checkpoint": spec.checkpoint,
            "stop_grace": spec.stop_grace,
            "on_drain": spec.on_drain,
            "keep_failed": spec.keep_failed,
            "volumes": spec.volumes,
        }


def _wire(item: Input) -> StepInput | ModelInput:
    if item.model is not None:
        return ModelInput(item.model, item.optional, item.stage)
    return StepInput(".".join(item.step), item.output, item.optional, item.stage)


def _question(spec: StepSpec) -> dict[str, Any]:
    """What an approval has of its own."""
    return {
        "subject": spec.subject,
        "assignees": spec.assignees,
        "default": spec.default,
        "on_reject": spec.on_reject,
        "when": spec.when,
        "step_timeout": spec.timeout,
    }
