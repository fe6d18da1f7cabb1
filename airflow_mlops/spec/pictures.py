# SPDX-License-Identifier: Apache-2.0
"""A pipeline as a picture: Mermaid for a page, plain text for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from airflow_mlops.spec.graph import Group, Pipeline, Step, StepPath

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 80
"""Columns of the plain text."""


def to_mermaid(pipeline: Pipeline) -> str:
    """
    The graph in Mermaid's language: data in solid arrows with the names of what is handed over, order alone in dotted
    ones.

    The same pipeline gives the same text.
    """
    lines = ["flowchart LR"]
    _boxes(pipeline.root, 1, lines)
    for node in _nodes(pipeline.root):
        if isinstance(node, Step):
            for producer, names in _reads(node).items():
                lines.append(f"  {_id(producer)} -->|{_label(', '.join(names))}| {_id(node.path)}")
        lines.extend(f"  {_id(needed)} -.-> {_id(node.path)}" for needed in node.needs)
    return "\n".join(lines) + "\n"


def to_text(pipeline: Pipeline) -> str:
    """
    The tree in plain text, each step with what it waits for and what it makes, and then which steps run at the same time;
    at most 80 columns wide.

    The same pipeline gives the same text.
    """
    title = pipeline.spec.name + (f" ({pipeline.environment})" if pipeline.environment else "")
    lines = _fit("", title)
    _branches(pipeline.root, "", lines)
    lines += ["", "in this order, those of a line at the same time:"]
    for number, steps in enumerate(levels(pipeline), start=1):
        lines += _fit(f"{number:3}  ", ", ".join("/".join(step.path) for step in steps))
    return "\n".join(lines) + "\n"


def levels(pipeline: Pipeline) -> list[list[Step]]:
    """Steps by the earliest moment at which they can run: those of one level may run at the same time."""
    steps = {step.path: step for step in pipeline.steps()}
    groups = {node.path: node for node in _nodes(pipeline.root) if isinstance(node, Group)}
    depth: dict[StepPath, int] = {}
    pending = list(reversed(steps.values()))
    while pending:
        step = pending[-1]
        before = [path for path in _waits_for(step, steps, groups) if path not in depth]
        if before:
            pending.extend(steps[path] for path in reversed(before))
            continue
        pending.pop()
        depth.setdefault(
            step.path,
            1 + max((depth[path] for path in _waits_for(step, steps, groups)), default=-1),
        )
    result: list[list[Step]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for path, step in steps.items():
        result[depth[path]].append(step)
    return result


def _waits_for(step: Step, steps: dict[StepPath, Step], groups: dict[StepPath, Group]) -> list[StepPath]:
    wanted = [item.step for item in step.inputs.values() if item.model is None]
    needs = list(step.needs)
    for length in range(1, len(step.path)):
        needs.extend(groups[step.path[:length]].needs)
    for path in needs:
        wanted.extend([path] if path in steps else [inner.path for inner in groups[path].steps()])
    return list(dict.fromkeys(wanted))


def _nodes(group: Group) -> Iterator[Step | Group]:
    for child in group.children:
        yield child
        if isinstance(child, Group):
            yield from _nodes(child)


def _boxes(group: Group, depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for child in group.children:
        name = child.path[-1]
        if isinstance(child, Group):
            lines.append(f'{indent}subgraph {_id(child.path)}["{name}"]')
            _boxes(child, depth + 1, lines)
            lines.append(f"{indent}end")
        else:
            lines.append(f'{indent}{_id(child.path)}["{name}<br/><small>{child.spec.kind}</small>"]')


def _branches(group: Group, prefix: str, lines: list[str]) -> None:
    for index, child in enumerate(group.children):
        last = index == len(group.children) - 1
        below = prefix + ("   " if last else "│  ")
        kind = "group" if isinstance(child, Group) else child.spec.kind
        lines += _fit(f"{prefix}{'└─ ' if last else '├─ '}", f"{child.path[-1]} [{kind}]", below)
        bar = "│  " if isinstance(child, Group) else "   "
        for line in _details(child):
            lines += _fit(below + bar, line)
        if isinstance(child, Group):
            _branches(child, below, lines)


def _details(node: Step | Group) -> list[str]:
    lines = []
    if isinstance(node, Step):
        if node.inputs:
            lines.append("reads " + ", ".join(item.label for item in node.inputs.values()))
        if node.spec.outputs:
            lines.append("makes " + ", ".join(f"{name} ({output.type})" for name, output in node.spec.outputs.items()))
    if node.needs:
        lines.append("after " + ", ".join("/".join(path) for path in node.needs))
    return lines


def _reads(step: Step) -> dict[StepPath, list[str]]:
    found: dict[StepPath, list[str]] = {}
    for item in step.inputs.values():
        if item.model is not None:
            continue
        names = found.setdefault(item.step, [])
        if item.output not in names:
            names.append(item.output)
    return found


def _id(path: StepPath) -> str:
    # Mermaid takes words such as 'end' for its own: no id is a bare name. Dashes and joints must not fall together.
    return "n_" + "__".join(name.replace("-", "_d") for name in path)


def _label(text: str) -> str:
    return f'"{text}"'


def _fit(prefix: str, text: str, below: str | None = None) -> list[str]:
    """A text behind a prefix, in as many lines as it takes; those after the first are indented behind ``below``."""
    following = prefix if below is None else below
    return textwrap.wrap(
        text,
        max(WIDTH, len(following) + 24),
        initial_indent=prefix,
        subsequent_indent=(" " * len(following) if following.strip().isdigit() else following) + "  ",
        break_on_hyphens=False,
    ) or [prefix]
