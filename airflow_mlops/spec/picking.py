# SPDX-License-Identifier: Apache-2.0
"""
What a ``pick`` chooses from: its candidates, what they are compared by, and what it hands on of the one that wins.

All candidates make things of the same names, so that one text, ``score.metrics.auc`` or ``fit.model``, means something in each: an output
of a step of a group, or of a step that is a candidate itself. Every one becomes an input of the step that picks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlops.spec.graph import Candidate, Choice, Group, Input, Step
from airflow_mlops.spec.parts import Output
from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from airflow_mlops.spec.building import Builder, Entry, Location

WINNER = "winner"
"""The output that says who won; each ``pick`` has it."""

_IN_GROUP = re.compile(
    r"(?P<step>(?:[a-z][a-z0-9-]*/)*[a-z][a-z0-9-]*)\.(?P<output>[a-z][a-z0-9_]*)(?:\.(?P<key>.+))?\Z"
)
_OF_STEP = re.compile(r"(?P<step>)(?P<output>[a-z][a-z0-9_]*)(?:\.(?P<key>.+))?\Z")


@dataclass(frozen=True)
class _Made:
    """What a text means in a candidate: an output of a step, or a key of one."""

    candidate: Entry
    step: Step
    name: str
    output: Output
    key: str | None

    @property
    def input_name(self) -> str:
        """What the step that picks calls it: the reference to it from where the candidate stands."""
        inside = "/".join(self.step.path[len(self.candidate.node.path) :])
        where = f"{self.candidate.label}/{inside}" if inside else self.candidate.label
        return f"{where}.{self.name}"

    @property
    def input(self) -> Input:
        """A candidate that was skipped is out of it; that is no reason to stop."""
        return Input(self.step.path, self.name, self.output.type, optional=True, stage="none")


class Picking:
    """
    One step of kind ``pick`` on its way into the tree.

    :param entry: the step, among all entries of the spec
    """

    def __init__(self, builder: Builder, entry: Entry, step: Step) -> None:
        self._builder = builder
        self._entry = entry
        self._step = step

    def resolve(self) -> None:
        """Look up what the candidates make, or report what they do not."""
        spec = self._step.spec
        wanted = self._wanted_outputs()
        candidates = self._candidates()
        made: dict[str, list[_Made] | None] = {}
        measures: list[_Made] | None = None
        if candidates and spec.by is not None:
            made = {name: self._outputs(candidates, name, text) for name, text in wanted.items()}
            measures = self._measures(candidates, spec.by.path, "max" if spec.by.max is not None else "min")
        self._declare(made)
        if measures is not None and len(made) == len(wanted):
            self._choose(measures, {name: found for name, found in made.items() if found is not None})

    def _wanted_outputs(self) -> dict[str, str]:
        """What it hands on, by name, as the spec says it of a candidate."""
        wanted: dict[str, str] = {}
        for name, output in self._step.spec.outputs.items():
            where: Location = ("outputs", name)
            if name == WINNER:
                self._say(where, f"output '{WINNER}' is the name of the candidate that won; expected another name")
            elif output.from_ is None:
                self._say(
                    where,
                    f"output '{name}' does not say what it is of the winner; expected such as '{name}: fit.{name}'",
                )
            else:
                wanted[name] = output.from_
        return wanted

    def _candidates(self) -> list[Entry] | None:
        """All candidates; ``None`` if one of them is none."""
        found = [self._candidate(index, name) for index, name in enumerate(self._step.spec.from_)]
        return None if None in found else [entry for entry in found if entry is not None]

    def _candidate(self, index: int, wanted: str) -> Entry | None:
        where: Location = ("from", index)
        found = self._builder.find(self._entry, wanted)
        if isinstance(found, str):
            self._say(where, f"step '{self._entry.label}' picks from {found}")
            return None
        if found is None or not self._builder.order(self._entry, found, where):
            return None
        if wanted in self._step.spec.from_[:index]:
            self._say(where, f"step '{self._entry.label}' picks from '{wanted}' twice; expected each candidate once")
            return None
        return found

    def _measures(self, candidates: list[Entry], text: str, end: str) -> list[_Made] | None:
        where: Location = ("by", end)
        found = [self._made(candidate, text, where) for candidate in candidates]
        good = [made for made in found if made is not None and self._is_measure(made, text, where)]
        return good if len(good) == len(candidates) else None

    def _is_measure(self, made: _Made, text: str, where: Location) -> bool:
        output, of = made.output, f"'{text}' of '{made.candidate.label}'"
        if output.type in ("number", "integer") and made.key is None:
            return True
        if output.type != "metrics":
            self._say(
                where, f"{of} is a {output.type}; expected a key of a metrics output, or an output of type number"
            )
            return False
        if made.key is None:
            self._say(where, f"{of} is all of its metrics; expected one of them, such as '{text}.auc'")
            return False
        if output.keys is not None and made.key not in output.keys:
            near = did_you_mean(made.key, output.keys)
            self._say(where, f"{of} is not among the 'keys' of that output; expected {one_of(output.keys)}{near}")
            return False
        return True

    def _outputs(self, candidates: list[Entry], name: str, text: str) -> list[_Made] | None:
        """An output of each candidate; ``None`` if one has none such."""
        where: Location = ("outputs", name)
        found = [made for candidate in candidates if (made := self._made(candidate, text, where)) is not None]
        if len(found) < len(candidates):
            return None
        if key := found[0].key:
            self._say(where, f"'{text}' is a part of an output; expected all of it: '{text.removesuffix(f'.{key}')}'")
            return None
        if len(types := {made.output.type for made in found}) > 1:
            self._say(where, f"'{text}' is {' in one candidate, '.join(sorted(types))} in another; expected one type")
            return None
        return found

    def _made(self, candidate: Entry, text: str, where: Location) -> _Made | None:
        """What a text means in a candidate; ``None`` after it was told that it means nothing."""
        is_group = isinstance(candidate.node, Group)
        match = (_IN_GROUP if is_group else _OF_STEP).match(text)
        if match is None:
            form = "step.output, since that is a group" if is_group else "the output alone, since that is a step"
            self._say(where, f"'{text}' is no output of '{candidate.label}'; expected {form}")
            return None
        entry = self._inside(candidate, match["step"], text, where)
        if entry is None:
            return None
        self._builder.settle(entry)
        step = entry.node
        assert isinstance(step, Step)  # noqa: S101 - no group is returned
        output = step.spec.outputs.get(match["output"])
        if output is not None:
            return _Made(candidate, step, match["output"], output, match["key"])
        if not self._builder.is_broken(step, "outputs"):
            makes = ", ".join(step.spec.outputs) or "nothing"
            near = did_you_mean(match["output"], step.spec.outputs)
            self._say(where, f"'{text}' is not made by '{'/'.join(step.path)}', which makes {makes}{near}")
        return None

    def _inside(self, candidate: Entry, path: str, text: str, where: Location) -> Entry | None:
        """A step of a candidate, or the candidate itself."""
        entry = candidate
        for part in filter(None, path.split("/")):
            if self._builder.unknown_inside(entry):
                return None
            inner = entry.names.get(part)
            if inner is None:
                near = did_you_mean(part, entry.names)
                expected = one_of(entry.names) if entry.names else "a step, which has no others inside"
                self._say(where, f"'{text}': there is no step '{part}' in '{entry.label}'; expected {expected}{near}")
                return None
            entry = inner
        if isinstance(entry.node, Group):
            self._say(where, f"'{text}': '{entry.label}' is a group; expected a step of it")
            return None
        return entry

    def _declare(self, made: dict[str, list[_Made] | None]) -> None:
        """Its outputs are what the candidates make, and the name of the one that won."""
        outputs: dict[str, Output] = {}
        for name, declared in self._step.spec.outputs.items():
            first = next(iter(made.get(name) or ()), None)
            like = first.output if first is not None else declared
            outputs[name] = Output.model_construct(
                type=like.type, file=like.file, keys=like.keys, asset=declared.asset, from_=declared.from_
            )
        outputs[WINNER] = Output.model_construct(type="string")
        self._step.spec.outputs = outputs

    def _choose(self, measures: list[_Made], made: dict[str, list[_Made]]) -> None:
        for found in [*made.values(), measures]:
            self._step.inputs.update((one.input_name, one.input) for one in found)
        self._step.choice = Choice(
            tuple(
                Candidate(
                    wanted,
                    measures[number].input_name,
                    {name: found[number].input_name for name, found in made.items()},
                )
                for number, wanted in enumerate(self._step.spec.from_)
            ),
            measures[0].key,
        )

    def _say(self, keys: Location, message: str) -> None:
        self._builder.say(self._entry, keys, message)
