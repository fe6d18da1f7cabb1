# SPDX-License-Identifier: Apache-2.0
"""Reading a spec file: from text to a pipeline that was found good, or to everything that is wrong with it."""

from __future__ import annotations

import gc
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml.nodes import MappingNode, Node

from airflow_mlops.spec.building import Builder
from airflow_mlops.spec.checks import Checks
from airflow_mlops.spec.documents import KEY, NodePath, compose, exists, locate, read_text, start
from airflow_mlops.spec.forms import kind_of
from airflow_mlops.spec.graph import Group, Pipeline
from airflow_mlops.spec.models import CONTAINER_RUNTIMES
from airflow_mlops.spec.overlays import apply_environment, known_environments
from airflow_mlops.spec.params import check_param, to_param
from airflow_mlops.spec.problems import (
    Problem,
    SpecError,
    did_you_mean,
    one_of,
    shorten,
)
from airflow_mlops.spec.structure import MERGED, MERGED_DEEPLY, PLACEHOLDER, Structure, split_location
from airflow_mlops.spec.values import Plain

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator

    from airflow_mlops.spec.graph import Step
    from airflow_mlops.spec.models import PipelineSpec

_PLACEHOLDER = re.compile(rf"step '{PLACEHOLDER}(?:[0-9]+-)*([0-9]+)'")

MAX_FINDINGS = 300
"""Problems after which nobody looks on: many more than are shown, few enough for a nearest name to each."""

RUNTIMES = ("process", "docker", "kubernetes")


def load_pipeline(
    path: str | os.PathLike[str],
    environment: str | None = None,
    runtime: str | None = None,
    default_environment: str | None = None,
) -> Pipeline:
    """
    Read a spec file and check all of it.

    :param path: the file; other paths in it are relative to its folder
    :param environment: name of the overlay to apply; ``None`` applies none
    :param default_environment: overlay to apply when ``environment`` names none, where the file has it
    :param runtime: ``process``, ``docker`` or ``kubernetes`` for all steps that run a program, whatever the spec says
    :raises SpecError: with every problem of the file at once
    """
    file = Path(path)
    if runtime is not None and runtime not in RUNTIMES:
        raise SpecError(
            [
                Problem(
                    str(file),
                    0,
                    0,
                    f"runtime '{runtime}'; expected {one_of(RUNTIMES)}{did_you_mean(runtime, RUNTIMES)}",
                )
            ]
        )
    with quiet_collector():
        return _Loading(file, read_text(file), environment, runtime, default_environment).load()


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep Python's cycle collector from running through tens of thousands of nodes that all go away at the end."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _EnoughError(Exception):
    """So much is wrong that looking on would only cost time."""


class _Loading:
    """One file on its way to a pipeline."""

    def __init__(
        self, file: Path, text: str, environment: str | None, runtime: str | None, default_environment: str | None
    ) -> None:
        self.file = file
        self.name = str(file)
        self.text = text
        self.environment = environment
        self.runtime = runtime
        self.default_environment = default_environment
        self.problems: list[Problem] = []
        self.findings: list[tuple[tuple[Any, ...], str]] = []
        self.has_placeholders = False

    def load(self) -> Pipeline:
        root = self._root()
        data = self._plain(root)
        structure = Structure(data, self.runtime)
        if structure.findings:
            self.findings.extend(item for item in structure.findings if not self._said_elsewhere(root, item[0]))
            self.has_placeholders = True
        spec = structure.spec
        tree, source = Group(()), None
        if spec is not None:
            with suppress(_EnoughError):
                source = self._source(spec)
                self._check_images(spec)
                tree = self._tree(spec, structure, source)
        if spec is None or self.findings or self.problems:
            raise SpecError(self._sorted_out(root))
        params = {name: to_param(param) for name, param in spec.params.items()}
        return Pipeline(spec, params, tree, self.file, source, self.environment, self._locator())

    def _root(self) -> MappingNode:
        root = compose(self.name, self.text)
        if not isinstance(root, MappingNode):
            plain = Plain(self.name)
            what = kind_of(plain.convert(root))
            self.problems = [
                *plain.problems,
                Problem(
                    self.name,
                    *start(root),
                    f"the file holds {what}; expected a mapping that starts with 'apiVersion: mlops/v1'",
                ),
            ]
            raise SpecError(self.problems)
        if self.environment is None and self.default_environment is not None:
            self.environment = self._known_default(root)
        if self.environment is None:
            return root
        # Keys that are merged in YAML's own way must be in place before an overlay is.
        plain = Plain(self.name)
        plain.convert(root)
        self.problems.extend(plain.problems)
        known = known_environments(root)
        if self.environment not in known:
            message = (
                f"unknown environment '{self.environment}'"
                f"; expected {one_of(known)}{did_you_mean(self.environment, known)}"
            )
            self.problems.append(Problem(self.name, *locate(root, ("environments", KEY)), shorten(message)))
            return root
        return apply_environment(root, self.environment, self._report_node)

    def _report_node(self, node: Node, message: str) -> None:
        self.problems.append(Problem(self.name, *start(node), shorten(message)))

    def _known_default(self, root: MappingNode) -> str | None:
        """The default overlay, if the file has it."""
        return self.default_environment if self.default_environment in known_environments(root) else None

    def _plain(self, root: MappingNode) -> dict[str, Any]:
        plain = Plain(self.name)
        data: dict[str, Any] = plain.convert(root)
        self.problems.extend(plain.problems)
        return data

    def _report(self, path: tuple[Any, ...], message: str) -> None:
        self.findings.append((path, message))
        if len(self.findings) >= MAX_FINDINGS:
            raise _EnoughError

    def _tree(self, spec: PipelineSpec, structure: Structure, source: Path | None) -> Group:
        builder = Builder(spec, self._report, structure.broken, frozenset(structure.lost))
        tree = builder.build()
        names = tuple(dict.fromkeys((*spec.params, *sorted(structure.params))))
        checks = Checks(names, self._report, builder, source)
        aliases = {*spec.images, *spec.images.values()}
        for step in tree.steps():
            checks.check(step)
            if spec.images and step.spec.runtime in CONTAINER_RUNTIMES:
                self._check_alias(step, aliases)
        self._check_params(spec)
        if spec.schedule == "@continuous" and (spec.max_active_runs or 1) > 1:
            message = f"max_active_runs is {spec.max_active_runs}, but schedule '@continuous' has one run at a time; expected 1, or none"
            self._report(("max_active_runs",), message)
        return tree

    def _check_params(self, spec: PipelineSpec) -> None:
        seen: dict[str, str] = {}
        for name, param in spec.params.items():
            first = seen.setdefault(name.upper(), name)
            if first != name:
                message = (
                    f"parameter '{name}' and parameter '{first}' are both MLOPS_PARAM_{name.upper()}"
                    f"; expected names that differ in more than case"
                )
                self._report(("params", name, KEY), message)
            for key, message in check_param(param):
                self._report(("params", name, key), f"parameter '{name}': {message}")
            if spec.schedule is not None and "default" not in param.model_fields_set:
                message = (
                    f"parameter '{name}' has no default, which a scheduled run needs"
                    f"; expected 'default', or no 'schedule'"
                )
                self._report(("params", name, KEY), message)

    def _check_images(self, spec: PipelineSpec) -> None:
        for alias, image in spec.images.items():
            if image != alias and image in spec.images:
                message = f"alias '{alias}' stands for '{image}', which is an alias itself; expected an image"
                self._report(("images", alias), message)

    def _check_alias(self, step: Step, aliases: Collection[str]) -> None:
        """A bare word that is nearly an alias is a mistyped one; whoever means an image of that name can say its tag."""
        image = step.spec.image
        if image is None or image in aliases or not image.isalnum():
            return
        if near := did_you_mean(image, aliases):
            message = f"step '{step.spec.name}': image '{image}' is no alias of 'images'; expected one, or '{image}:latest'{near}"
            self._report((*step.location, "image"), message)

    def _source(self, spec: PipelineSpec) -> Path | None:
        if spec.source is None:
            return None
        source = self.file.parent / spec.source
        try:
            if source.is_dir():
                return source
        except OSError:
            pass
        self._report(
            ("source",),
            f"source '{spec.source}' is no folder beside the spec; expected the folder of the step code",
        )
        return None

    def _sorted_out(self, root: MappingNode) -> list[Problem]:
        """All that was found, with positions; the same thing is said once, where it is written."""
        # What could not be read as data cannot be judged as a value: one problem at one place is enough.
        taken = {(problem.line, problem.column) for problem in self.problems}
        defaults: set[tuple[Any, ...]] = set()
        for path, message in self.findings:
            written = path
            if _came_from_defaults(root, path):
                written = ("defaults", *split_location(path)[1])
                if written in defaults:
                    continue
                defaults.add(written)
            place = locate(root, written)
            if place not in taken:
                text = _PLACEHOLDER.sub(_number_of_step, message) if self.has_placeholders else message
                self.problems.append(Problem(self.name, *place, shorten(text)))
        return self.problems

    def _said_elsewhere(self, root: Node, path: tuple[Any, ...]) -> bool:
        """Whether a finding about form is also made where the value was written: in ``defaults`` or the environment."""
        return _came_from_defaults(root, path) or (
            self.environment is not None and path[:2] == ("environments", self.environment)
        )

    def _locator(self) -> _Locator:
        return _Locator(self.name, self.text, self.environment)


class _Locator:
    """Finds positions when a problem turns up later; until then it costs the text."""

    def __init__(self, name: str, text: str, environment: str | None) -> None:
        self._name = name
        self._text = text
        self._environment = environment
        self._root: Node | None = None

    def __call__(self, path: NodePath) -> tuple[int, int]:
        if self._root is None:
            root = compose(self._name, self._text)
            Plain(self._name).convert(root)
            if self._environment is not None and isinstance(root, MappingNode):
                root = apply_environment(root, self._environment, lambda node, message: None)
            self._root = root
        return locate(self._root, _written(self._root, tuple(path)))


def _written(root: Node, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where a value stands: in a step, or in ``defaults``, which put it there."""
    rest = split_location(path)[1]
    inherited = ("defaults", *rest)
    return inherited if _came_from_defaults(root, path) and exists(root, inherited[:2]) else path


def _number_of_step(match: re.Match[str]) -> str:
    """What to call a step whose name cannot be used."""
    return f"step number {int(match[1]) + 1}"


def _came_from_defaults(root: Node, path: tuple[Any, ...]) -> bool:
    """Whether a finding in a step is about what ``defaults`` put there."""
    home, rest = split_location(tuple(part for part in path if part is not KEY))
    if not home or not rest:
        return False
    if rest[0] in MERGED_DEEPLY:
        return exists(root, ("defaults", *rest)) and not exists(root, (*home, *rest))
    depth = 2 if rest[0] in MERGED else 1
    return not exists(root, (*home, *rest[:depth]))
