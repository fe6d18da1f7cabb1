# SPDX-License-Identifier: Apache-2.0
"""
From plain data to a valid :class:`PipelineSpec`, whatever is wrong with the data.

A good document costs one pydantic call. From a bad one, what is wrong is reported and cut out, so that the rest can
still be checked for what refers to what: one bad step must not hide the errors of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_mlops.spec.documents import KEY
from airflow_mlops.spec.later import comes_later
from airflow_mlops.spec.models import API_VERSION, PROGRAM_KINDS, PipelineSpec
from airflow_mlops.spec.wording import Finding, finding, strip_tags

if TYPE_CHECKING:
    from collections.abc import Iterator

Location = tuple[Any, ...]

PLACEHOLDER = "unnamed-"
"""Start of the name of a step whose own cannot be used."""

MERGED = frozenset(("env", "secrets", "resources", "docker", "kubernetes", "pod", "process", "backoff", "callbacks"))
MERGED_DEEPLY = frozenset(("docker", "kubernetes", "pod"))
"""Of these, the ones whose mappings are merged, too: they are other tools' words, in which a mapping is seldom one thing."""
"""Keys of ``defaults`` that a step's own are merged with."""

AIRFLOWS = frozenset(
    ("retries", "infra_retries", "backoff", "pool", "pool_slots", "priority_weight", "queue", "callbacks")
)
"""Keys of ``defaults`` that are about the task, whatever it runs."""

_FOR_OPERATORS = AIRFLOWS | {"timeout"}
_BY_NAME = frozenset(
    (
        "inputs",
        "outputs",
        "env",
        "secrets",
        "params",
        "images",
        "environments",
        "docker",
        "kubernetes",
        "pod",
    )
)
_MAX_ROUNDS = 4
_MAX_ERRORS = 300
"""Errors that are worded: far more than are shown, few enough to be quick."""


class Structure:
    """
    A document's form.

    :param data: the document as plain data; it is changed
    :param runtime: overrides the runtime of all steps that run a program

    ``spec`` is the valid part, ``None`` if there is none; ``findings`` say what is wrong; ``broken`` says, by the
    location of a step (empty for the top level), which of its keys were cut out; ``params`` are the names of all
    parameters, also of those cut out, and ``lost`` those names of steps that cannot be used.
    """

    def __init__(self, data: dict[str, Any], runtime: str | None) -> None:
        self.spec: PipelineSpec | None = None
        self.findings: list[Finding] = []
        self.broken: dict[Location, set[str]] = {}
        self.params: frozenset[str] = frozenset()
        self.lost: set[str] = set()
        for key in [key for key in data if key.startswith("x-")]:
            del data[key]
        _fill_in(data, runtime)
        try:
            self.spec = PipelineSpec.model_validate(data, by_name=False)
        except ValidationError as error:
            self._mend(data, error)

    def _mend(self, data: dict[str, Any], error: ValidationError) -> None:
        if isinstance(data.get("params"), dict):
            self.params = frozenset(data["params"])
        later = {
            location: key for location, entry in _entries(data.get("steps"), ("steps",)) if (key := comes_later(entry))
        }
        for _ in range(_MAX_ROUNDS):
            errors = error.errors(include_url=False)[:_MAX_ERRORS]
            for item in errors:
                path, message = finding(item, data)
                if not self._hidden(path, later):
                    self.findings.append((path, message))
            for location in later:
                self._cut(data, location)
            for item in errors:
                self._cut(data, strip_tags(item["loc"]))
            if "steps" in self.broken.get((), ()):
                return
            try:
                self.spec = PipelineSpec.model_validate(data, by_name=False)
                return
            except ValidationError as next_error:
                error = next_error
                self.findings = list(dict.fromkeys(self.findings))

    def _hidden(self, path: Location, later: dict[Location, str]) -> bool:
        """Whether a finding only follows from a kind or rule that is refused as a whole."""
        bare = tuple(part for part in path if part is not KEY)
        for location, key in later.items():
            if bare[: len(location)] == location:
                return bare != (*location, key)
        return False

    def _cut(self, data: dict[str, Any], path: Location) -> None:
        """Take what is wrong out of the data, as little as can be."""
        path = tuple(part for part in path if part is not KEY)
        home, rest = split_location(path)
        self.broken.setdefault(home, set()).add(str(rest[0]) if rest else "")
        if home and rest[:1] == ("steps",):
            self.broken[home].add("")
        if not rest:
            _replace(data, home)
            return
        owner = _at(data, home)
        if not isinstance(owner, dict):
            return
        key = rest[0]
        if key == "name" and isinstance(owner.get("name"), str):
            self.lost.add(owner["name"])
        if key in owner and len(rest) > 1 and key in _BY_NAME and isinstance(owner[key], dict):
            owner[key].pop(rest[1], None)
        else:
            owner.pop(key, None)
        if home:
            _complete_entry(owner, home, key)
        else:
            _complete_top(owner, key)


def _fill_in(data: dict[str, Any], runtime: str | None) -> None:
    """Write defaults and image aliases into the steps."""
    defaults, images = data.get("defaults"), data.get("images")
    defaults = dict(defaults) if isinstance(defaults, dict) else {}
    if runtime is not None:
        defaults.pop("runtime", None)
    by_kind = {
        "operator": [(key, value) for key, value in defaults.items() if key in _FOR_OPERATORS],
        **dict.fromkeys(
            ("import", "gate", "pick", "approve", "register"),
            [(key, value) for key, value in defaults.items() if key in AIRFLOWS],
        ),
    }
    everything = list(defaults.items())
    for _, entry in _entries(data.get("steps"), ("steps",)):
        kind = entry.get("kind")
        if "steps" in entry and kind is None:
            continue
        if not isinstance(kind, str):
            kind = ""
        _fill_in_defaults(entry, by_kind.get(kind, everything))
        if kind == "pick":
            _name_sources(entry)
        if runtime is not None and kind in PROGRAM_KINDS:
            entry["runtime"] = runtime
        if isinstance(images, dict):
            image = entry.get("image")
            if isinstance(image, str) and isinstance(images.get(image), str):
                entry["image"] = images[image]


def _fill_in_defaults(entry: dict[str, Any], defaults: list[tuple[str, Any]]) -> None:
    for key, value in defaults:
        if key not in entry:
            entry[key] = value
        elif key in MERGED and isinstance(value, dict) and isinstance(entry[key], dict):
            entry[key] = _deeply(value, entry[key]) if key in MERGED_DEEPLY else {**value, **entry[key]}


def _name_sources(entry: dict[str, Any]) -> None:
    """The outputs of a ``pick`` in their long form: a lone text is another step's output there, and no type."""
    outputs = entry.get("outputs")
    if isinstance(outputs, dict):
        entry["outputs"] = {
            name: {"from": value} if isinstance(value, str) else value for name, value in outputs.items()
        }


def _deeply(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two mappings as one, and the mappings in them likewise; everything else is replaced."""
    found = {**base, **over}
    for key in base.keys() & over.keys():
        if isinstance(base[key], dict) and isinstance(over[key], dict):
            found[key] = _deeply(base[key], over[key])
    return found


def _entries(steps: Any, location: Location) -> Iterator[tuple[Location, dict[str, Any]]]:
    if isinstance(steps, list):
        for index, entry in enumerate(steps):
            if isinstance(entry, dict):
                yield (*location, index), entry
                if "steps" in entry:
                    yield from _entries(entry["steps"], (*location, index, "steps"))


def split_location(path: Location) -> tuple[Location, Location]:
    """A path as that of its step or group, and the rest."""
    end = 0
    while len(path) > end + 1 and path[end] == "steps" and isinstance(path[end + 1], int):
        end += 2
    return path[:end], path[end:]


def _at(data: Any, path: Location) -> Any:
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _placeholder(location: Location) -> dict[str, Any]:
    return {
        "name": PLACEHOLDER + "-".join(str(part) for part in location if part != "steps"),
        "kind": "container",
    }


def _replace(data: dict[str, Any], location: Location) -> None:
    """Put a step that can be checked no further in the place of one, under the same name."""
    entries = _at(data, location[:-1])
    if not location or not isinstance(entries, list):
        return
    entry, stand_in = entries[location[-1]], _placeholder(location)
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        stand_in["name"] = entry["name"]
    entries[location[-1]] = stand_in


def _complete_entry(entry: dict[str, Any], location: Location, key: str) -> None:
    stand_in = _placeholder(location)
    if key == "name":
        entry["name"] = stand_in["name"]
    elif key == "kind":
        entry["kind"] = "container"
        entry.pop("steps", None)
    elif key == "steps":
        entry.setdefault("kind", "container")


def _complete_top(data: dict[str, Any], key: str) -> None:
    if key == "name":
        data["name"] = "unnamed"
    elif key == "apiVersion":
        data["apiVersion"] = API_VERSION
