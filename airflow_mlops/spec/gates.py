# SPDX-License-Identifier: Apache-2.0
"""What conditions of a step may speak of, found out when the spec is read: a gate that can never open should not wait for its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.cel_tree import ConditionError
from airflow_mlops.spec.conditions import parse, written
from airflow_mlops.spec.parts import PARAMETER_TYPES
from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_mlops.spec.cel_tree import Path
    from airflow_mlops.spec.graph import Input, Step
    from airflow_mlops.spec.parts import Output

RESERVED = frozenset(
    (
        "in true false null as break const continue else for function if import let loop package namespace return var void while "
        "int uint double bool string bytes list map type null_type dyn timestamp duration size matches"
    ).split()
)
"""Words of the language (https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax), and its types and functions."""

PARAMS = "params"
"""The name by which a condition reads the parameters of the pipeline."""

CONDITIONAL_KINDS = ("gate", "approve")
"""Those whose steps have conditions."""

Finding = tuple[tuple[Any, ...], str]


class Conditions:
    """
    The conditions of one step: those that a ``gate`` requires, or the one of which an ``approve`` makes it depend whether it asks.

    :param params: names of the parameters that the pipeline declares
    :param outputs: what the producers of the step's inputs declare, by input; those that are known
    :param is_broken: whether a key was wrong, so that nothing can be said about it
    """

    def __init__(
        self, step: Step, params: Sequence[str], outputs: dict[str, Output], is_broken: Callable[[str], bool]
    ) -> None:
        self._step = step
        self._params = params
        self._outputs = outputs
        self._is_broken = is_broken
        self.params: list[str] = []
        """Parameters that the conditions read."""

    def problems(self) -> Iterator[Finding]:
        """What is wrong, by the path below the step."""
        spec = self._step.spec
        if spec.kind == "gate":
            yield from self._odd_inputs()
            yield from self._unsaid()
        yield from self._hidden_params()
        if spec.inputs.keys() & RESERVED:
            return
        for index, text in enumerate(spec.require):
            yield from self._condition(("require", index), text)
        if spec.when is not None:
            yield from self._condition(("when",), spec.when)

    def _condition(self, where: tuple[Any, ...], text: str) -> Iterator[Finding]:
        spec = self._step.spec
        names = frozenset((*spec.inputs, PARAMS))
        try:
            paths = parse(text, names).paths
        except ConditionError as error:
            near = f"; expected a condition over {one_of(sorted(names))}"
            yield (
                where,
                f"condition of step '{spec.name}', column {error.column}: {error}{near if 'undeclared' in str(error) else ''}",
            )
            return
        for path in paths:
            if message := self._problem(path):
                yield where, f"condition of step '{spec.name}': {message}"

    def _odd_inputs(self) -> Iterator[Finding]:
        """Inputs that a gate has no use for; of an approval, those are shown."""
        for name, item in self._step.inputs.items():
            if not readable(item):
                yield ("inputs", name, "from"), f"input '{name}' is {_unreadable(item)}"

    def _hidden_params(self) -> Iterator[Finding]:
        for name in sorted(RESERVED & self._step.spec.inputs.keys()):
            yield ("inputs", name), f"input '{name}' has a name that CEL keeps for itself; expected another name"
        if PARAMS in self._step.spec.inputs:
            yield (
                ("inputs", PARAMS),
                f"input '{PARAMS}' has the name of the pipeline's parameters; expected another name",
            )

    def _unsaid(self) -> Iterator[Finding]:
        """What becomes of a gate that looks at a model of which there may be none yet, is for its author to say."""
        spec = self._step.spec
        aliases = [item.label for item in self._step.inputs.values() if item.model is not None and "@" in item.model]
        if aliases and spec.no_champion is None and not self._is_broken("no_champion"):
            yield (
                (),
                f"gate '{spec.name}' reads {aliases[0]}, which there is not before the first model has it"
                "; expected 'no_champion: open', or 'no_champion: close'",
            )
        if not aliases and spec.no_champion is not None:
            yield (
                ("no_champion",),
                f"gate '{spec.name}' reads no model by an alias; expected an input such as 'champion: models:churn@champion'",
            )

    def _problem(self, path: Path) -> str | None:
        root, rest = str(path[0]), path[1:]
        if root == PARAMS:
            return self._param(path)
        item = self._step.inputs.get(root)
        if item is None:
            return None
        if not readable(item):
            # That a gate has such an input is told already.
            return None if self._step.spec.kind == "gate" else f"'{root}' is {_unreadable(item)}"
        is_measured = item.type == "metrics" or item.model is not None
        return self._metric(root, path, item) if is_measured else _parameter(path, item, rest)

    def _param(self, path: Path) -> str | None:
        if len(path) == 1 or path[1] not in self._params:
            near = did_you_mean(str(path[1]), self._params) if len(path) > 1 else ""
            return f"{written(path)} is no parameter; expected {one_of([f'{PARAMS}.{name}' for name in self._params])}{near}"
        self.params.append(str(path[1]))
        return None

    def _metric(self, root: str, path: Path, item: Input) -> str | None:
        if len(path) == 1:
            of = item.model or f"'{'/'.join(item.step)}'"
            return f"'{root}' is all metrics of {of}; expected one of them, such as {root}.accuracy"
        keys = output.keys if (output := self._outputs.get(root)) is not None else None
        if keys is not None and path[1] not in keys:
            near = did_you_mean(str(path[1]), keys)
            return (
                f"{written(path)} is not among the 'keys' of {'/'.join(item.step)}.{item.output}"
                f"; expected {one_of([written((root, key)) for key in keys])}{near}"
            )
        if len(path) > 2:
            return f"{written(path)} is a part of a number; expected {written(path[:2])}"
        return None


def readable(item: Input) -> bool:
    """Whether a condition can read an input."""
    return item.type == "metrics" or item.type in PARAMETER_TYPES or item.model is not None


def _unreadable(item: Input) -> str:
    return f"a {item.type}, which no condition can read; expected metrics, a parameter or a registered model"


def _parameter(path: Path, item: Input, rest: Path) -> str | None:
    if rest and item.type not in ("list", "object"):
        return f"{written(path)} is a part of {'an' if item.type[0] in 'aio' else 'a'} {item.type}; expected {written(path[:1])}"
    return None
