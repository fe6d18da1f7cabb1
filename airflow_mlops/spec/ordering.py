# SPDX-License-Identifier: Apache-2.0
"""Cycles among steps and groups. Looked for only when something refers to what comes later in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.spec.graph import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlops.spec.building import Entry


def find_cycles(entries: Sequence[Entry]) -> list[list[Entry]]:
    """
    Cycles among steps, at least one for each set of steps that wait for each other.

    :param entries: all steps and groups, in the order of the document
    """
    before = _dependencies(entries)
    steps = [entry for entry in entries if isinstance(entry.node, Step)]
    done: set[Entry] = set()
    cycles: list[list[Entry]] = []
    for start in steps:
        if start not in done:
            cycles.extend(_walk(start, before, done))
    return cycles


def _dependencies(entries: Sequence[Entry]) -> dict[Entry, list[Entry]]:
    """What each entry waits for, where a group stands for its own end: it waits for all that is in it."""
    inside: dict[Entry, list[Entry]] = {}
    for entry in entries:
        if entry.parent is not None:
            inside.setdefault(entry.parent, []).append(entry)
    before: dict[Entry, list[Entry]] = {}
    for entry in entries:
        waits = list(entry.after)
        if isinstance(entry.node, Step):
            scope = entry.parent
            while scope is not None:
                waits.extend(scope.after)
                scope = scope.parent
        else:
            waits = list(inside.get(entry, ()))
        before[entry] = waits
    return before


def _walk(start: Entry, before: dict[Entry, list[Entry]], done: set[Entry]) -> list[list[Entry]]:
    """Depth first without recursion: a chain may be thousands of steps long."""
    cycles: list[list[Entry]] = []
    trail, on_trail = [start], {start}
    pending = [iter(before[start])]
    while trail:
        following = next(pending[-1], None)
        if following is None:
            pending.pop()
            on_trail.discard(trail[-1])
            done.add(trail.pop())
        elif following in on_trail:
            cycles.append(_steps_of(trail[trail.index(following) :]))
        elif following not in done:
            trail.append(following)
            on_trail.add(following)
            pending.append(iter(before[following]))
    return cycles


def _steps_of(trail: list[Entry]) -> list[Entry]:
    """The steps of a cycle in the order in which they would run, from the first one of the document."""
    steps = [entry for entry in reversed(trail) if isinstance(entry.node, Step)]
    first = min(range(len(steps)), key=lambda index: steps[index].first)
    return steps[first:] + steps[:first]
