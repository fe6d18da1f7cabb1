# SPDX-License-Identifier: Apache-2.0
"""
What is decided before a step's program starts: its parameters, what it runs with everything rendered, and the seal that says so.

Nothing here writes; the stages of :mod:`~airflow_mlops.operators.life` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import Seal
from airflow_mlops.operators.contract import environment
from airflow_mlops.operators.failures import BadStep, CannotStart
from airflow_mlops.operators.program import Invocation, Program
from airflow_mlops.operators.resolve import ResolvedInputs, run_facts, template_names
from airflow_mlops.operators.secrets import read_secrets
from airflow_mlops.spec.templates import TemplateError, render

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator

_MAX_TEXT = 128 << 10
"""Bytes of one argument or variable (execve(2), MAX_ARG_STRLEN with the usual pages)."""

_MAX_TEXTS = 2 << 20
"""Bytes of all of them: a quarter of the usual limit of a stack (ditto)."""


def wires_of(operator: StepOperator) -> Mapping[str, Any]:
    """The inputs as they were written: a spec's references, or what an author gave the operator."""
    return operator.program.inputs if operator.program is not None else operator.inputs or {}


def parameters_of(operator: StepOperator, context: Any) -> dict[str, Any]:
    """Declared parameters; a spec's are taken from the run's, an author's were given to the operator."""
    if operator.program is None:
        return dict(operator.parameters or {})
    params = context["params"]
    return {name: params[name] for name in operator.program.params}


def invocation_of(
    operator: StepOperator, context: Any, attempt: Attempt, inputs: ResolvedInputs, parameters: Mapping[str, Any]
) -> Invocation:
    """Render the program and put the contract's variables into its environment."""
    author = operator.program is None
    program = _authors_program(operator) if author else _rendered(operator, context, attempt, inputs, parameters)
    layout = operator.layout(attempt)
    files, secret_environment = read_secrets(operator.secrets)
    attempt.secret_files = files
    variables = environment(
        layout,
        input_paths=inputs.paths(layout),
        parameters=parameters,
        outputs=operator.outputs,
        secret_files={name: f"{layout.secrets}/{name}" for name in files},
        checkpoint=operator.checkpoint,
    )
    if not author:
        # Shown in the UI as the rendered fields of the task, which leaves out those that are None.
        operator.command, operator.args = list(program.command) or None, list(program.args) or None
        operator.env = dict(program.env) or None
        operator.parameters = {
            name: value for name, value in parameters.items() if name not in inputs.parameters
        } or None
        if hasattr(operator, "image"):
            operator.image = program.image if operator.runtime != "process" else None  # which has no use for it
        operator.inputs = {
            name: inputs.artifacts[name].uri if name in inputs.artifacts else inputs.parameters.get(name)
            for name in program.inputs
        } or None
    invocation = Invocation(
        image=program.image,
        command=program.command,
        args=program.args,
        environment={**variables, **(attempt.tracked.variables if attempt.tracked else {}), **program.env},
        secret_environment={**(attempt.tracked.credentials if attempt.tracked else {}), **secret_environment},
        working_directory=layout.source if attempt.has_source else None,
        timeout=operator.step_timeout,
    )
    _check_size(operator, invocation)
    return invocation


def _check_size(operator: StepOperator, invocation: Invocation) -> None:
    """
    See whether a program can be given what it is to be given. In a container that is found out when it runs, and looks like the program's
    own failure.

    :raises CannotStart: if Linux takes no text of that size
    :raises BadStep: if a text holds a NUL character, where it would end
    """
    for what, text in invocation.texts():
        if "\0" in text:
            raise BadStep(f"step '{operator.task_id}': {what} holds a NUL character, which no program can be given")
    sizes = {what: len(what) + len(text.encode("utf-8", "surrogateescape")) for what, text in invocation.texts()}
    if max(sizes.values(), default=0) >= _MAX_TEXT or sum(sizes.values()) >= _MAX_TEXTS:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:3]
        raise CannotStart(
            f"step '{operator.task_id}': its arguments and variables are more than a program can be given "
            f"({_MAX_TEXT >> 10} KiB each, {_MAX_TEXTS >> 20} MiB in all); hand big values on as a file. "
            f"The largest: {', '.join(f'{what} ({size} bytes)' for what, size in largest)}"
        )


def _authors_program(operator: StepOperator) -> Program:
    for name in ("command", "args"):
        value = getattr(operator, name)
        if isinstance(value, str):
            raise BadStep(f"{name} is the string {value!r}; expected a list, such as ['sh', '-c', {value!r}]")
    return Program(
        image=getattr(operator, "image", None),
        command=[str(word) for word in operator.command or ()],
        args=[str(word) for word in operator.args or ()],
        env={str(name): str(value) for name, value in (operator.env or {}).items()},
    )


def _rendered(
    operator: StepOperator, context: Any, attempt: Attempt, inputs: ResolvedInputs, parameters: Mapping[str, Any]
) -> Program:
    program = operator.program
    assert program is not None  # noqa: S101 - the caller told the two forms apart
    names = names_of(operator, context, attempt, inputs, parameters)
    return Program(
        image=rendered_text(operator, program.image, names) if program.image else None,
        command=[rendered_text(operator, word, names) for word in program.command],
        args=[rendered_text(operator, word, names) for word in program.args],
        env={name: rendered_text(operator, value, names) for name, value in program.env.items()},
        inputs=program.inputs,
    )


def names_of(
    operator: StepOperator,
    context: Any,
    attempt: Attempt,
    inputs: ResolvedInputs,
    params: Mapping[str, Any],
) -> dict[str, Any]:
    return template_names(
        operator.layout(attempt),
        inputs=inputs,
        outputs=operator.outputs,
        params={name: value for name, value in params.items() if name not in inputs.parameters},
        context=context,
        try_number=attempt.identity.try_number,
    )


def seal_of(
    operator: StepOperator, context: Any, attempt: Attempt, inputs: ResolvedInputs, parameters: Mapping[str, Any]
) -> Seal:
    invocation, identity, layout = attempt.invocation, attempt.identity, operator.layout(attempt)
    paths = inputs.paths(layout)
    program_env = operator.env or {}
    sealed_inputs = {
        name: {
            "type": artifact.type,
            "path": paths.get(name),
            "uri": artifact.uri,
            "digest": artifact.digest,
            "metadata": dict(artifact.metadata),
        }
        for name, artifact in inputs.artifacts.items()
    }
    step = {
        "pipeline": identity.dag_id,
        "name": identity.task_id,
        "kind": operator.kind,
        "runtime": operator.runtime,
        "image": invocation.image if invocation else None,
        "command": list(invocation.command) if invocation else [],
        "args": list(invocation.args) if invocation else [],
        **operator.sealed_container(attempt),
        "env": dict(program_env),
        "params": dict(parameters),
        "inputs": sealed_inputs,
        "outputs": {
            name: {"type": output.type, "path": layout.output(name, output)}
            for name, output in operator.outputs.items()
        },
        "source": attempt.source_digest,
    }
    run = {
        **run_facts(context),
        "instance": identity.instance,
        "map_index": identity.map_index,
        "generation": identity.generation,
        "incarnation": identity.incarnation,
        "try": identity.try_number,
        "attempt": attempt.id,
        "starter": identity.ti_id,
    }
    runtime = operator.sealed_runtime(attempt) if attempt.invocation is not None else None
    return Seal.model_validate({"step": step, "run": run, "runtime": runtime})


def rendered_text(operator: StepOperator, text: str, names: Mapping[str, Any]) -> str:
    """
    Render one of a spec's templates.

    :raises BadStep: if it does not render
    """
    try:
        return render(text, names)
    except TemplateError as error:
        raise BadStep(f"step '{operator.task_id}': {error}") from error
