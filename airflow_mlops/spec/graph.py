# SPDX-License-Identifier: Apache-2.0
"""The neutral tree of a pipeline: steps and groups with resolved references, which everything else walks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.documents import NodePath
from airflow_mlops.spec.models import PROGRAM_KINDS
from airflow_mlops.spec.problems import Problem, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlops.spec.models import PipelineSpec, StepSpec

StepPath = tuple[str, ...]
"""Names from the root to a step or group; a task id joins them with dots."""

Locator = Callable[[NodePath], tuple[int, int]]
"""Line and column of a value of the spec file by its path; of its key, where that ends with ``KEY``."""


@dataclass(slots=True)
class Input:
    """
    An input whose reference is resolved.

    :param step: path of the step that makes it
    :param output: name of the output there
    :param type: the producer's type
    :param optional: whether the step runs without it, when the producer was skipped
    :param stage: ``copy`` puts the artifact beside the program, ``none`` gives it the URI alone
    :param model: in place of a step's output, the reference to a registered model; ``step`` and ``output`` are empty then
    """

    step: StepPath
    output: str
    type: str
    optional: bool = False
    stage: str = "copy"
    model: str | None = None

    @property
    def label(self) -> str:
        """What it is, as a spec refers to it from outside all groups."""
        return self.model or f"{'/'.join(self.step)}.{self.output}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One of those that a ``pick`` chooses from. Its values are inputs of the step that picks.

    :param name: the step or group, as the spec calls it
    :param measure: the input that it is compared by
    :param outputs: by output of the step that picks, the input that it would be
    """

    name: str
    measure: str
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Choice:
    """
    What a ``pick`` chooses from.

    :param key: number of the measure that is compared, where that is a metrics output; ``None`` if it is a parameter
    """

    candidates: tuple[Candidate, ...]
    key: str | None


@dataclass(slots=True)
class Step:
    """
    One step.

    :param path: names from the root, ``("route", "fit")``
    :param spec: the step with defaults, image aliases and environment applied; an ``import`` has one output, named like
        its type
    :param inputs: resolved references by name
    :param needs: paths of steps or groups that come first without handing anything over
    :param location: where the step is in the document, for problems found later
    :param choice: what a ``pick`` chooses from
    """

    path: StepPath
    spec: StepSpec
    inputs: dict[str, Input] = field(default_factory=dict)
    needs: tuple[StepPath, ...] = ()
    location: tuple[str | int, ...] = ()
    choice: Choice | None = None

    @property
    def task_id(self) -> str:
        """The id that Airflow knows it by."""
        return ".".join(self.path)


@dataclass(slots=True)
class Group:
    """Steps and groups under one name; the root has an empty path."""

    path: StepPath
    children: tuple[Step | Group, ...] = ()
    needs: tuple[StepPath, ...] = ()
    description: str = ""
    display_name: str | None = None
    location: tuple[str | int, ...] = ()

    def steps(self) -> Iterator[Step]:
        """All steps below, in the order of the document."""
        for child in self.children:
            if isinstance(child, Step):
                yield child
            else:
                yield from child.steps()


@dataclass(frozen=True, slots=True)
class Param:
    """
    A parameter of the pipeline.

    :param schema: JSON Schema fields as Airflow's ``Param`` takes them, without the default
    :param default: value when a run gives none; meaningless unless ``has_default``
    """

    schema: dict[str, Any]
    default: Any = None
    has_default: bool = True


@dataclass(slots=True)
class Pipeline:
    """
    A pipeline that was read and found good.

    :param spec: the file's top level, with the environment applied
    :param params: parameters by name, in the order of the file
    :param root: the tree of steps and groups
    :param file: the spec file
    :param source: folder of the step code, if the spec names one
    :param environment: the overlay that was applied
    """

    spec: PipelineSpec
    params: dict[str, Param]
    root: Group
    file: Path
    source: Path | None = None
    environment: str | None = None
    locate: Locator | None = field(default=None, repr=False, compare=False)

    def steps(self) -> Iterator[Step]:
        """All steps, in the order of the document."""
        return self.root.steps()

    def programs(self, runtime: str) -> list[Step]:
        """The steps that run a program, of those in a runtime."""
        return [step for step in self.steps() if step.spec.runtime == runtime and step.spec.kind in PROGRAM_KINDS]

    def step(self, path: str | StepPath) -> Step:
        """
        A step by its path, ``"route/fit"``, ``"route.fit"`` or a tuple of names.

        :raises KeyError: if there is none; the message lists those that there are
        """
        wanted = tuple(path.replace("/", ".").split(".")) if isinstance(path, str) else tuple(path)
        for step in self.steps():
            if step.path == wanted:
                return step
        raise KeyError(
            f"no step '{'/'.join(wanted)}'; expected one of {', '.join('/'.join(s.path) for s in self.steps())}"
        )

    def problem(self, step: Step | None, keys: NodePath, message: str) -> Problem:
        """
        A problem found after the file was read, at the place it was written.

        :param step: the step it is about; ``None`` for the top level
        :param keys: path of the value below the step
        """
        line, column = self.locate((*(step.location if step else ()), *keys)) if self.locate else (0, 0)
        return Problem(str(self.file), line, column, shorten(message))

    def path_of(self, path: str) -> Path:
        """A path that the spec names: relative to the spec's folder, unless it is absolute."""
        return (self.file.absolute().parent / path).absolute()

    def uri_of(self, text: str) -> str:
        """A URI that the spec names: a path without a scheme is one of a file, relative to the spec's folder."""
        return text if "://" in text or text.startswith("{{") else self.path_of(text).as_uri()

    @property
    def digest(self) -> str:
        """``sha256:…`` of the spec as it was resolved: environment, defaults and aliases applied."""
        document = {
            "pipeline": self.spec.model_dump(mode="json", by_alias=True, exclude={"steps", "environments"}),
            "steps": [_canonical_step(step) for step in self.steps()],
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _canonical_step(step: Step) -> dict[str, Any]:
    inputs = {
        name: [list(item.step), item.output, item.optional, item.stage] if item.model is None else item.model
        for name, item in step.inputs.items()
    }
    spec = step.spec.model_dump(mode="json", by_alias=True)
    return {
        "path": list(step.path),
        "spec": spec,
        "inputs": inputs,
        "needs": [list(path) for path in step.needs],
    }
