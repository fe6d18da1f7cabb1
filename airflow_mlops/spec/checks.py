# SPDX-License-Identifier: Apache-2.0
"""What a step must be, given its kind, its runtime and what it refers to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.containers import check_container
from airflow_mlops.spec.demands import DEMANDS
from airflow_mlops.spec.documents import KEY
from airflow_mlops.spec.gates import CONDITIONAL_KINDS, Conditions
from airflow_mlops.spec.models import CONTAINER_RUNTIMES, PROGRAM_KINDS, STEP_KEYS, StepSpec
from airflow_mlops.spec.parts import PARAMETER_TYPES, Output
from airflow_mlops.spec.problems import did_you_mean, one_of
from airflow_mlops.spec.programs import missing_script
from airflow_mlops.spec.scopes import Scope
from airflow_mlops.spec.structure import AIRFLOWS
from airflow_mlops.spec.templates import TemplateError, references, render

if TYPE_CHECKING:
    from airflow_mlops.spec.building import Builder, Location, Report
    from airflow_mlops.spec.graph import Step

_ALWAYS = AIRFLOWS | {"name", "kind", "display_name", "description", "needs"}
_ALLOWED: dict[str, frozenset[str]] = {
    "operator": _ALWAYS | {"params", "inputs", "outputs", "timeout", "operator"},
    "import": _ALWAYS | {"params", "uri", "asset", "type", "digest", "outputs"},
    "gate": _ALWAYS | {"params", "inputs", "require", "on_fail", "no_champion"},
    "register": _ALWAYS | {"inputs", "model", "alias"},
    "pick": _ALWAYS | {"from_", "by", "outputs"},
    "approve": _ALWAYS | {"params", "inputs", "timeout", "subject", "assignees", "default", "on_reject", "when"},
}
_NOT_FOR_PROGRAMS = frozenset().union(*_ALLOWED.values()) - _ALWAYS - {"params", "inputs", "outputs", "timeout"}
_RESERVED_PREFIX = "MLOPS_"


class Checks:
    """
    The checks of all steps of a spec.

    :param params: names of the declared parameters, in the order of the file
    :param builder: knows which parts of a step were cut out, about which nothing can be said
    :param source: folder of the step code, if the spec has one
    """

    def __init__(self, params: tuple[str, ...], report: Report, builder: Builder, source: Path | None) -> None:
        self._source = source
        self._params = params
        self._known_params = frozenset(params)
        self._report = report
        self._builder = builder

    def check(self, step: Step) -> None:
        """Report what is wrong with a step, and add the parameters that its templates name to those it gets."""
        spec = step.spec
        broken = self._builder.is_broken
        if broken(step, ""):
            return
        if not broken(step, "kind"):
            self._check_kind(step)
        self._check_params(step)
        if spec.outputs and spec.kind != "import":
            self._check_outputs(step)
        for where, text in _templates(spec):
            if "{{" in text or "{%" in text:
                self._check_template(step, where, text)
        if spec.params and step.inputs:
            self._check_shadowing(step)

    def _check_kind(self, step: Step) -> None:
        self._check_keys(step)
        if (check := DEMANDS.get(step.spec.kind)) is not None:
            for keys, message in check(step, self._builder.is_broken):
                self._say(step, keys, message)
        if step.spec.kind in PROGRAM_KINDS:
            self._check_program(step)
        elif step.spec.kind in CONDITIONAL_KINDS:
            self._check_conditions(step)

    def _check_conditions(self, step: Step) -> None:
        is_broken = partial(self._builder.is_broken, step)
        conditions = Conditions(step, self._params, self._builder.outputs_read(step), is_broken)
        for keys, message in conditions.problems():
            self._say(step, keys, message)
        step.spec.params = list(dict.fromkeys([*step.spec.params, *conditions.params]))

    def _say(self, step: Step, keys: Location, message: str) -> None:
        self._report((*step.location, *keys), message)

    def _check_keys(self, step: Step) -> None:
        spec = step.spec
        given = spec.model_fields_set
        if spec.kind in PROGRAM_KINDS:
            wrong = given & _NOT_FOR_PROGRAMS
            if not wrong:
                return
        else:
            wrong = given - _ALLOWED[spec.kind]
        if spec.kind == "import" and "outputs" in given and spec.type is None:
            wrong = wrong | {"outputs"}
        allowed = {key.rstrip("_") for key in _allowed_for(spec.kind)}
        for name in sorted(key.rstrip("_") for key in wrong):
            keys = [key for key in STEP_KEYS if key in allowed]
            self._say(
                step,
                (name, KEY),
                f"key '{name}' is not for kind '{spec.kind}' (step '{spec.name}'); expected {one_of(keys)}",
            )

    def _check_program(self, step: Step) -> None:
        spec, broken = step.spec, self._builder.is_broken
        if spec.runtime in CONTAINER_RUNTIMES:
            if spec.image is None and not broken(step, "image") and not broken(step, "runtime"):
                self._say(
                    step,
                    (),
                    f"step '{spec.name}' has no image, which runtime '{spec.runtime}' needs"
                    f"; expected 'image', here or in 'defaults'",
                )
            for keys, message in check_container(spec):
                self._say(step, keys, message)
        elif not spec.command and not broken(step, "command") and not broken(step, "runtime"):
            self._say(
                step,
                (),
                f"step '{spec.name}' has no command, which runtime 'process' needs"
                f"; expected a list such as [python, {spec.name}.py]",
            )
        if spec.env or spec.secrets:
            self._check_variables(step)
        if self._source is not None and (missing := missing_script(spec.command, self._source)) is not None:
            index, word = missing
            self._say(
                step,
                ("command", index),
                f"step '{spec.name}' runs '{word}', which is not in the source folder; expected a file of it",
            )

    def _check_variables(self, step: Step) -> None:
        spec = step.spec
        for name in spec.env:
            if name.startswith(_RESERVED_PREFIX):
                self._say(
                    step,
                    ("env", name, KEY),
                    f"variable '{name}' starts with '{_RESERVED_PREFIX}', which belongs to the contract with the step"
                    f"; expected another name",
                )
        for name, secret in spec.secrets.items():
            if secret.as_ == "env" and name in spec.env:
                self._say(
                    step,
                    ("secrets", name, KEY),
                    f"'{name}' is both a secret and a variable of 'env'; expected one of the two",
                )
            if name.startswith(_RESERVED_PREFIX):
                self._say(
                    step,
                    ("secrets", name, KEY),
                    f"secret '{name}' starts with '{_RESERVED_PREFIX}', which belongs to the contract with the step"
                    f"; expected another name",
                )

    def _check_params(self, step: Step) -> None:
        for index, name in enumerate(step.spec.params):
            if name not in self._known_params:
                near = did_you_mean(name, self._params)
                self._say(
                    step,
                    ("params", index),
                    f"step '{step.spec.name}' asks for parameter '{name}', which is not declared"
                    f"; expected {one_of(self._params)}{near}",
                )

    def _check_outputs(self, step: Step) -> None:
        spec = step.spec
        assets: dict[str, str] = {}
        for name, output in spec.outputs.items():
            if isinstance(output.asset, str) and (first := assets.setdefault(output.asset, name)) != name:
                self._say(
                    step,
                    ("outputs", name, "asset"),
                    f"outputs '{first}' and '{name}' are both asset '{output.asset}', which has one event for a run of the step"
                    f"; expected another asset",
                )
            for key, message in _odd_output(name, output, spec.kind):
                self._say(step, ("outputs", name, *key), message)

    def _check_template(self, step: Step, where: Location, text: str) -> None:
        try:
            names = references(text)
            if not names:
                # It means the same in every run; what fails now would fail in each of them.
                render(text, {})
        except TemplateError as error:
            self._say(step, where, f"template of step '{step.spec.name}': {error}")
            return
        scope = Scope(step, self._params, self._builder)
        for name in names:
            if problem := scope.problem(name):
                self._say(step, where, f"template of step '{step.spec.name}': {problem}")
            elif name[0] == "params" and name[1] not in step.spec.params:
                step.spec.params.append(name[1])

    def _check_shadowing(self, step: Step) -> None:
        given = {name.upper(): name for name in step.spec.params}
        for name, item in step.inputs.items():
            if item.type in PARAMETER_TYPES and name.upper() in given:
                variable = f"MLOPS_PARAM_{name.upper()}"
                message = (
                    f"input '{name}' and parameter '{given[name.upper()]}' are both {variable}"
                    f"; expected another name for the input"
                )
                self._say(step, ("inputs", name, KEY), message)


def _odd_output(name: str, output: Output, kind: str) -> Iterator[tuple[Location, str]]:
    """What an output says that it cannot have, by the key that says it."""
    if output.is_parameter:
        if output.file is not None:
            yield (
                ("file",),
                f"output '{name}' is a parameter ('{output.type}'), which has no file name; expected no 'file'",
            )
        if output.asset:
            yield (
                ("asset",),
                f"output '{name}' is a parameter ('{output.type}'), which is no asset; expected 'asset' for artifacts alone",
            )
    if output.keys is not None and output.type != "metrics":
        yield ("keys",), f"output '{name}' is a {output.type}; 'keys' are for outputs of type metrics"
    if output.from_ is not None and kind != "pick":
        yield (
            ("from",),
            f"output '{name}' has a 'from', which is for steps of kind pick; expected a type, such as {{type: model}}",
        )
    if kind == "operator":
        if output.is_artifact and output.uri is None:
            yield (
                (),
                f"output '{name}' is a {output.type} without a URI"
                f"; expected {{type: {output.type}, uri: …}}, where the operator leaves it",
            )
        return
    for key in ("uri", "digest"):
        if getattr(output, key) is not None:
            yield (
                (key,),
                f"output '{name}' has a '{key}', which is for steps of kind operator; expected what the program writes",
            )


def _allowed_for(kind: str) -> frozenset[str]:
    return _ALLOWED.get(kind) or frozenset(StepSpec.model_fields) - _NOT_FOR_PROGRAMS


def _templates(spec: StepSpec) -> Iterator[tuple[Location, str]]:
    for key in ("image", "uri", "subject"):
        if (text := getattr(spec, key)) is not None:
            yield (key,), text
    for index, text in enumerate(spec.command):
        yield ("command", index), text
    for index, text in enumerate(spec.args):
        yield ("args", index), text
    for name, text in spec.env.items():
        yield ("env", name), text
    if spec.outputs and spec.kind == "operator":
        for name, output in spec.outputs.items():
            if output.uri is not None:
                yield ("outputs", name, "uri"), output.uri
    if spec.operator is not None:
        yield from _nested(("operator", "arguments"), spec.operator.arguments)


def _nested(where: Location, value: Any) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nested((*where, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nested((*where, index), item)
