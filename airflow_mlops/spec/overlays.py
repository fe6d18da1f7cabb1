# SPDX-License-Identifier: Apache-2.0
"""
Environments: an overlay merged over a spec.

Nodes are merged, not values, so that a wrong value of an overlay is reported where the overlay says it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from airflow_mlops.spec.documents import child, text_of
from airflow_mlops.spec.problems import did_you_mean, one_of

NO_TAG: Any = None
"""The tag of a node that has none, as the composer leaves it."""

Report = Callable[[Node, str], None]

_WHOLE = ("schedule", "deadline")
"""Keys whose value is replaced as a whole: half an old schedule and half a new one make no sense."""


def known_environments(root: Node) -> list[str]:
    """Names of the environments of a document."""
    found = child(root, "environments")
    if found is None or not isinstance(found[1], MappingNode):
        return []
    return [key.value for key, _ in found[1].value if isinstance(key, ScalarNode)]


def apply_environment(root: MappingNode, environment: str, report: Report) -> MappingNode:
    """
    A document with an environment merged over it.

    :param environment: one of :func:`known_environments`
    :param report: called with a node of the overlay and what is wrong with it
    """
    environments = child(root, "environments")
    overlay = child(environments[1], environment) if environments else None
    if overlay is None or not isinstance(overlay[1], MappingNode):
        return root
    plain = [(key, value) for key, value in overlay[1].value if key.value not in ("params", "steps")]
    merged = _merge_mappings(root, _mapping(overlay[1], plain))
    for key, value in overlay[1].value:
        if key.value == "params" and isinstance(value, MappingNode):
            merged = _replace(merged, "params", _merge_params(child(merged, "params"), value))
        elif key.value == "steps" and isinstance(value, MappingNode):
            for path, change in value.value:
                merged = _change_step(merged, path, change, report)
    return merged


def _mapping(like: Node, pairs: list[tuple[Node, Node]]) -> MappingNode:
    return MappingNode(
        NO_TAG,
        pairs,
        like.start_mark,
        like.end_mark,
        flow_style=getattr(like, "flow_style", None),
    )


def _merge(base: Node, over: Node) -> Node:
    if isinstance(base, MappingNode) and isinstance(over, MappingNode):
        return _merge_mappings(base, over)
    return over


def _merge_mappings(base: MappingNode, over: MappingNode) -> MappingNode:
    changes = {key.value: (key, value) for key, value in over.value if isinstance(key, ScalarNode)}
    pairs: list[tuple[Node, Node]] = []
    for key, value in base.value:
        change = changes.pop(key.value, None) if isinstance(key, ScalarNode) else None
        if change is None:
            pairs.append((key, value))
        else:
            pairs.append(
                (
                    change[0],
                    change[1] if key.value in _WHOLE else _merge(value, change[1]),
                )
            )
    return _mapping(base, [*pairs, *changes.values()])


def _replace(base: MappingNode, name: str, value: Node) -> MappingNode:
    pairs = [(key, value if key.value == name else old) for key, old in base.value]
    if not any(key.value == name for key, _ in pairs):
        pairs.append((ScalarNode(NO_TAG, name, value.start_mark, value.end_mark), value))
    return _mapping(base, pairs)


def _merge_params(base: tuple[Node | None, Node] | None, over: MappingNode) -> Node:
    """A lone value of an overlay is another default; a mapping changes fields."""
    if base is None or not isinstance(base[1], MappingNode):
        return over
    declared = {key.value: value for key, value in base[1].value if isinstance(key, ScalarNode)}
    changes: list[tuple[Node, Node]] = []
    for key, value in over.value:
        old = declared.get(key.value) if isinstance(key, ScalarNode) else None
        if isinstance(old, MappingNode) and not isinstance(value, MappingNode):
            default = ScalarNode(NO_TAG, "default", value.start_mark, value.end_mark)
            changes.append((key, _mapping(old, [(default, value)])))
        else:
            changes.append((key, value))
    return _merge(base[1], _mapping(over, changes))


def _change_step(root: MappingNode, path: Node, change: Node, report: Report) -> MappingNode:
    parts = (text_of(path) or "").split("/")
    steps = child(root, "steps")
    if steps is None or not isinstance(steps[1], SequenceNode) or not isinstance(change, MappingNode):
        return root
    changed = _change_entry(steps[1], parts, change)
    if changed is None:
        names = list(_paths(steps[1], ""))
        report(
            path,
            f"unknown step '{'/'.join(parts)}'; expected {one_of(names)}{did_you_mean('/'.join(parts), names)}",
        )
        return root
    return _replace(root, "steps", changed)


def _change_entry(entries: SequenceNode, parts: list[str], change: MappingNode) -> SequenceNode | None:
    for index, entry in enumerate(entries.value):
        name = child(entry, "name")
        if name is None or text_of(name[1]) != parts[0]:
            continue
        if len(parts) == 1:
            changed: Node = _merge(entry, change)
        else:
            inner = child(entry, "steps")
            below = _change_entry(inner[1], parts[1:], change) if inner and isinstance(inner[1], SequenceNode) else None
            if below is None:
                return None
            changed = _replace(entry, "steps", below)
        items = [*entries.value[:index], changed, *entries.value[index + 1 :]]
        return SequenceNode(
            NO_TAG,
            items,
            entries.start_mark,
            entries.end_mark,
            flow_style=entries.flow_style,
        )
    return None


def _paths(entries: SequenceNode, prefix: str) -> list[str]:
    """Names of all steps and groups, as an overlay writes them."""
    found = []
    for entry in entries.value:
        name = child(entry, "name")
        text = text_of(name[1]) if name else None
        if text is None:
            continue
        found.append(prefix + text)
        inner = child(entry, "steps")
        if inner and isinstance(inner[1], SequenceNode):
            found.extend(_paths(inner[1], f"{prefix}{text}/"))
    return found
