# SPDX-License-Identifier: Apache-2.0
"""Which names a template of a step may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.spec.models import PROGRAM_KINDS
from airflow_mlops.spec.parts import ARTIFACT_TYPES
from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlops.spec.building import Builder
    from airflow_mlops.spec.graph import Input, Step

ROOTS = ("params", "inputs", "outputs", "run", "ds", "ts")
RUN_NAMES = ("id", "date", "interval_start", "interval_end", "try")
_AIRFLOWS = frozenset(
    (
        "var",
        "conn",
        "dag",
        "task",
        "ti",
        "task_instance",
        "macros",
        "dag_run",
        "xcom",
        "env",
    )
)


class Scope:
    """
    The names of one step.

    :param params: names of the declared parameters
    """

    def __init__(self, step: Step, params: Sequence[str], builder: Builder) -> None:
        self._step = step
        self._params = params
        self._builder = builder

    def problem(self, name: tuple[str, ...]) -> str | None:
        """What is wrong with a dotted name, given as its parts; ``None`` if nothing."""
        root, rest = name[0], name[1:]
        if root not in ROOTS:
            hint = "; Airflow's own names are not known in a spec" if root in _AIRFLOWS else did_you_mean(root, ROOTS)
            return (
                f"unknown name '{'.'.join(name)}'; expected one of params.*, inputs.*, outputs.*, run.*, ds, ts{hint}"
            )
        if root in ("ds", "ts"):
            return f"'{'.'.join(name)}' goes into a string; expected '{root}'" if rest else None
        if not rest:
            return f"'{root}' alone is no value; expected '{root}.<name>'"
        if root == "params":
            return self._param(rest[0])
        if root == "run":
            return self._run(name)
        return self._input(name) if root == "inputs" else self._output(name)

    def _param(self, name: str) -> str | None:
        if name in self._params:
            return None
        return f"unknown parameter '{name}'; expected {one_of(self._params)}{did_you_mean(name, self._params)}"

    def _run(self, name: tuple[str, ...]) -> str | None:
        if name[1] in RUN_NAMES and len(name) == 2:  # noqa: PLR2004
            return None
        names = [f"run.{item}" for item in RUN_NAMES]
        return f"unknown name '{'.'.join(name)}'; expected {one_of(names)}{did_you_mean('.'.join(name[:2]), names)}"

    def _input(self, name: tuple[str, ...]) -> str | None:
        inputs = self._step.spec.inputs
        if name[1] not in inputs:
            if self._builder.is_broken(self._step, "inputs"):
                return None
            return f"unknown input '{name[1]}'; expected {one_of(inputs)}{did_you_mean(name[1], inputs)}"
        resolved = self._step.inputs.get(name[1])
        if resolved is None:
            return None
        return (
            _artifact_input(name, resolved, self._step)
            if resolved.type in ARTIFACT_TYPES
            else _parameter_input(name, resolved)
        )

    def _output(self, name: tuple[str, ...]) -> str | None:
        outputs = self._step.spec.outputs
        if self._step.spec.kind in PROGRAM_KINDS:
            if name[1] not in outputs:
                if self._builder.is_broken(self._step, "outputs"):
                    return None
                return f"unknown output '{name[1]}'; expected {one_of(outputs)}{did_you_mean(name[1], outputs)}"
            if name[2:] == ("path",):
                return None
            return f"'{'.'.join(name)}' is no value; expected 'outputs.{name[1]}.path'"
        return (
            f"'{'.'.join(name)}': a step of kind {self._step.spec.kind} writes no files of its own"
            f"; expected names of params, inputs or run"
        )


def _artifact_input(name: tuple[str, ...], resolved: Input, step: Step) -> str | None:
    fields = ["uri", "digest", "metadata"]
    if resolved.stage != "none" and step.spec.kind in PROGRAM_KINDS:
        fields.insert(0, "path")
    if len(name) > 2 and name[2] in fields and (len(name) == 3 or name[2] == "metadata"):  # noqa: PLR2004
        return None
    names = [f"inputs.{name[1]}.{field}" for field in fields]
    if name[2:] == ("path",):
        return f"'{'.'.join(name)}' is never staged, so that it has no path; expected {one_of(names)}"
    what = f"'{'.'.join(name)}' is no value: the input is a {resolved.type}"
    # A name without a field means the artifact itself, which a program finds at its path.
    near = did_you_mean(".".join(name[:3]), names) if len(name) > 2 else ""  # noqa: PLR2004
    near = near or f"; did you mean '{names[0]}'?"
    return f"{what}; expected {one_of(names)}{near}"


def _parameter_input(name: tuple[str, ...], resolved: Input) -> str | None:
    if len(name) == 2 or resolved.type in ("list", "object"):  # noqa: PLR2004
        return None
    return f"'{'.'.join(name)}' is no value: the input is a parameter ('{resolved.type}'); expected 'inputs.{name[1]}'"
