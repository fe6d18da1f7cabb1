# SPDX-License-Identifier: Apache-2.0
"""
From a valid spec to the tree: names become paths, references are looked up, and the order is one that can be run.

Names are looked up in the own group, then outwards. What is wrong is reported by the location in the document;
positions are found later, and only for what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.spec.gates import CONDITIONAL_KINDS
from airflow_mlops.spec.graph import Group, Input, Step, StepPath
from airflow_mlops.spec.model_names import SCHEME
from airflow_mlops.spec.models import GroupSpec, PipelineSpec, StepSpec
from airflow_mlops.spec.ordering import find_cycles
from airflow_mlops.spec.parts import InputSpec, Output
from airflow_mlops.spec.picking import Picking
from airflow_mlops.spec.problems import did_you_mean, one_of
from airflow_mlops.spec.registering import REGISTERED
from airflow_mlops.spec.structure import PLACEHOLDER

Location = tuple[Any, ...]
Report = Callable[[Location, str], None]


@dataclass(slots=True, eq=False)
class Entry:
    """A step or group on its way into the tree. ``first`` and ``last``: the steps of the document that it spans."""

    node: Step | Group
    parent: Entry | None
    first: int
    last: int = 0
    names: dict[str, Entry] = field(default_factory=dict)
    wanted: Sequence[str] = ()
    after: list[Entry] = field(default_factory=list)

    @property
    def label(self) -> str:
        return "/".join(self.node.path)


class Builder:
    """
    Builds the tree of a spec.

    :param broken: keys that were cut out, by the location of their step: nothing is said about what can no longer be
        known
    :param lost: names that somebody may refer to and that no step has any more, since they were wrong
    """

    def __init__(
        self,
        spec: PipelineSpec,
        report: Report,
        broken: dict[Location, set[str]],
        lost: frozenset[str],
    ) -> None:
        self._report = report
        self._broken = broken
        self._lost = lost
        self._count = 0
        self._forward = False
        self._settled: set[StepPath] = set()
        self._entries: list[Entry] = []
        self._tree = Group(())
        self._root = Entry(self._tree, None, 0)
        self._add_children(self._root, spec.steps, ("steps",))

    def build(self) -> Group:
        """The tree; what is wrong was reported."""
        for entry in self._entries:
            self._resolve_needs(entry)
            self.settle(entry)
        for entry in self._entries:
            if isinstance(entry.node, Step) and entry.node.spec.inputs:
                self._resolve_inputs(entry, entry.node)
        if self._forward:
            for cycle in find_cycles(self._entries):
                at = cycle[0].node
                path = " -> ".join(item.label for item in (*cycle, cycle[0]))
                self._report(
                    (*at.location, "name"),
                    f"steps wait for each other in a cycle: {path}; expected an order without one",
                )
        return self._tree

    def settle(self, entry: Entry) -> None:
        """Find out what a step hands on, where that is what others make: of a ``pick``, what its candidates do."""
        if isinstance(entry.node, Step) and entry.node.spec.kind == "pick" and entry.node.path not in self._settled:
            self._settled.add(entry.node.path)
            Picking(self, entry, entry.node).resolve()

    def outputs_read(self, step: Step) -> dict[str, Output]:
        """What the producers of a step's inputs declare, by input."""
        steps = {entry.node.path: entry.node for entry in self._entries if isinstance(entry.node, Step)}
        return {
            name: steps[item.step].spec.outputs[item.output] for name, item in step.inputs.items() if item.model is None
        }

    def say(self, entry: Entry, keys: Location, message: str) -> None:
        """Report what is wrong with a step, at a path below it."""
        self._report((*entry.node.location, *keys), message)

    def is_broken(self, step: Step, key: str) -> bool:
        """Whether a key of a step was wrong, so that nothing can be said about it."""
        keys = self._broken.get(step.location)
        return keys is not None and (key in keys or "" in keys)

    def _add_children(self, parent: Entry, specs: Sequence[StepSpec | GroupSpec], location: Location) -> None:
        children: list[Step | Group] = []
        prefix = parent.node.path
        for index, spec in enumerate(specs):
            path = (*prefix, spec.name)
            here = (*location, index)
            if isinstance(spec, StepSpec):
                if spec.kind == "import" and spec.type is not None:
                    spec.outputs = {
                        spec.type: Output.model_construct(
                            type=spec.type,
                            uri=spec.uri,
                            digest=spec.digest or "content",
                        )
                    }
                if spec.kind == "register" and "outputs" not in spec.model_fields_set:
                    spec.outputs = dict(REGISTERED)
                    spec.model_fields_set.remove("outputs")  # nobody has written them
                node: Step | Group = Step(path, spec, {}, (), here)
            else:
                node = Group(path, (), (), spec.description, spec.display_name, here)
            entry = Entry(node, parent, self._count, wanted=spec.needs)
            self._entries.append(entry)
            if isinstance(spec, GroupSpec):
                self._add_children(entry, spec.steps, (*here, "steps"))
            else:
                self._count += 1
            entry.last = self._count - 1
            if spec.name in parent.names:
                self._report((*here, "name"), self._twice(spec.name, parent.names[spec.name]))
            elif not spec.name.startswith(PLACEHOLDER) or not self._broken:
                parent.names[spec.name] = entry
            children.append(node)
        if isinstance(parent.node, Group):
            parent.node.children = tuple(children)

    def _twice(self, name: str, first: Entry) -> str:
        what = "a group" if isinstance(first.node, Group) else "a step"
        return f"name '{name}' is taken by {what} before it; expected another name"

    def _resolve_needs(self, entry: Entry) -> None:
        if not entry.wanted:
            return
        paths = []
        for index, wanted in enumerate(entry.wanted):
            found = self.find(entry, wanted)
            if isinstance(found, str):
                self._report(
                    (*entry.node.location, "needs", index),
                    f"{_who(entry)} needs {found}",
                )
            elif found is not None and self.order(entry, found, ("needs", index)):
                paths.append(found.node.path)
        entry.node.needs = tuple(dict.fromkeys(paths))

    def _resolve_inputs(self, entry: Entry, step: Step) -> None:
        for name, spec in step.spec.inputs.items():
            is_registered = spec.from_.startswith(SCHEME)
            resolved = (self._registered if is_registered else self._resolve_input)(entry, name, spec)
            if resolved is not None:
                step.inputs[name] = resolved

    def _resolve_input(self, entry: Entry, name: str, spec: InputSpec) -> Input | None:
        where = (*entry.node.location, "inputs", name, "from")
        wanted, _, output_name = spec.from_.rpartition(".")
        found = self.find(entry, wanted, reads=spec.from_)
        if isinstance(found, str):
            self._report(where, f"{_who(entry)} reads {found}")
            return None
        if found is None:
            return None
        producer = found.node
        if isinstance(producer, Group):
            names = [f"{wanted}/{name}.{output}" for name, output in _outputs_of(found)]
            self._report(
                where,
                f"{_who(entry)} reads '{spec.from_}', but '{wanted}' is a group; expected {one_of(names)}",
            )
            return None
        if not self.order(entry, found, ("inputs", name, "from")):
            return None
        output = producer.spec.outputs.get(output_name)
        if output is None:
            told = any(self.is_broken(producer, key) for key in ("outputs", "kind", "type"))
            if not told and not (producer.spec.kind == "import" and producer.spec.type is None):
                self._report(
                    where,
                    _no_such_output(entry, spec.from_, wanted, list(producer.spec.outputs)),
                )
            return None
        self._check_type(entry, name, spec, output)
        return Input(producer.path, output_name, output.type, spec.optional, spec.stage)

    def _registered(self, entry: Entry, name: str, spec: InputSpec) -> Input:
        if spec.type not in (None, "model", "artifact"):
            where = (*entry.node.location, "inputs", name, "type")
            self._report(
                where, f"input '{name}' asks for type {spec.type}, but '{spec.from_}' is a model; expected no 'type'"
            )
        # A gate has a word of its own for a model that there is not yet, and an approval says so.
        looks = isinstance(entry.node, Step) and entry.node.spec.kind in CONDITIONAL_KINDS
        is_optional = spec.optional or (looks and "@" in spec.from_)
        return Input((), "", "model", is_optional, spec.stage, spec.from_)

    def _check_type(self, entry: Entry, name: str, spec: InputSpec, output: Output) -> None:
        here = (*entry.node.location, "inputs", name)
        if spec.type is not None and spec.type != output.type and not (spec.type == "artifact" and output.is_artifact):
            what = f"input '{name}' asks for type {spec.type}, but '{spec.from_}' is of type {output.type}"
            self._report((*here, "type"), f"{what}; expected an output of type {spec.type}")
        if output.is_parameter and spec.stage == "none":
            self._report(
                (*here, "stage"),
                f"input '{name}' is a parameter ('{output.type}'), which is never staged; expected no 'stage'",
            )

    def find(self, entry: Entry, wanted: str, reads: str | None = None) -> Entry | str | None:
        """A step or group by its name; or what to say; or ``None`` where nothing can be said."""
        head, *rest = wanted.split("/")
        scope = entry.parent
        found: Entry | None = None
        while scope is not None and found is None:
            found = scope.names.get(head)
            scope = scope.parent
        for part in rest:
            if found is None:
                break
            if self.unknown_inside(found):
                return None
            found = found.names.get(part)
        if found is not None:
            return found
        if self._lost and (head in self._lost or (rest and rest[-1] in self._lost)):
            return None
        names = list(dict.fromkeys(_visible(entry)))
        if reads is not None:
            steps = [name for name, other in _visible_entries(entry) if isinstance(other.node, Step)]
            near = did_you_mean(wanted, steps)
            output = reads.rpartition(".")[2]
            tail = near.replace("'?", f".{output}'?") if near else ""
            return f"'{reads}', but there is no step '{wanted}' in sight; expected {one_of(steps)}{tail}"
        if "." in wanted and wanted.partition(".")[0] in names:
            return f"'{wanted}'; expected the step alone, without an output; did you mean '{wanted.partition('.')[0]}'?"
        return (
            f"'{wanted}', but there is no such step or group in sight"
            f"; expected {one_of(names)}{did_you_mean(wanted, names)}"
        )

    def unknown_inside(self, entry: Entry) -> bool:
        """Whether a group's steps were wrong, so that nothing can be said about what is in it."""
        return "" in self._broken.get(entry.node.location, ())

    def order(self, entry: Entry, target: Entry, keys: Location) -> bool:
        """Have an entry come after another one; ``False`` after it was told that it cannot."""
        if target.first <= entry.first and entry.last <= target.last and _contains(target, entry):
            what = "itself" if target is entry else f"group '{target.label}', which it belongs to"
            verb = {"inputs": "reads", "from": "picks from"}.get(keys[0], "needs")
            self._report(
                (*entry.node.location, *keys),
                f"{_who(entry)} {verb} {what}; expected another step",
            )
            return False
        if target.last >= entry.first:
            self._forward = True
        entry.after.append(target)
        return True


def _contains(outer: Entry, inner: Entry) -> bool:
    current: Entry | None = inner
    while current is not None:
        if current is outer:
            return True
        current = current.parent
    return False


def _who(entry: Entry) -> str:
    return f"{'group' if isinstance(entry.node, Group) else 'step'} '{entry.label}'"


def _no_such_output(entry: Entry, reference: str, producer: str, outputs: list[str]) -> str:
    makes = f"'{producer}' makes {', '.join(outputs[:12])}" if outputs else f"'{producer}' declares no outputs"
    near = did_you_mean(reference, [f"{producer}.{name}" for name in outputs])
    return f"{_who(entry)} reads '{reference}', which no step makes; {makes}{near}"


def _visible_entries(entry: Entry) -> Iterator[tuple[str, Entry]]:
    scope = entry.parent
    while scope is not None:
        for name, other in scope.names.items():
            if other is not entry and not _contains(other, entry):
                yield name, other
                yield from ((f"{name}/{inner}", found) for inner, found in other.names.items())
        scope = scope.parent


def _visible(entry: Entry) -> Iterator[str]:
    return (name for name, _ in _visible_entries(entry))


def _outputs_of(group: Entry) -> list[tuple[str, str]]:
    return [
        (name, output)
        for name, entry in group.names.items()
        if isinstance(entry.node, Step)
        for output in entry.node.spec.outputs
    ]
