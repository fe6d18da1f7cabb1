# SPDX-License-Identifier: Apache-2.0
"""
From a manifest to what a page says, in order and in words.

Names and values come from programs that anybody may have written: they are cut to what a page can hold, and the templates escape them all.
No address out of a manifest becomes a link.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import ReferenceRefused, origin_of
from airflow_mlops.operators.links import DOWNLOAD, PAGE
from airflow_mlops.spec.verdicts import answer_told, told
from airflow_mlops.ui.asked import Asked
from airflow_mlops.ui.problems import Problem
from airflow_mlops.ui.reading import shapes_of
from airflow_mlops.ui.shapes import Drawn, drawn

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Manifest, Seal, Store
    from airflow_mlops.ui.reading import Found

MAX_ROWS = 200
"""Rows of a table; what is above is counted."""

MAX_TEXT = 1000
"""Characters of a name or a value."""

MAX_DRAWN = 10
"""Metrics outputs whose files are read for their shapes."""

MAX_SHAPES = 20
"""Shapes of a metrics output; what is above is counted."""


@dataclass(frozen=True)
class Cell:
    """
    A text of a table.

    :param href: page of ours that it leads to
    :param number: whether it is one that is read against those above and below
    """

    text: str
    href: str | None = None
    number: bool = False


@dataclass(frozen=True)
class Table:
    """
    A table of a page.

    :param title: the heading above it
    :param columns: headings of its columns; none if there is nothing to tell apart
    :param left_out: number of rows that were too many
    :param note: a sentence below the heading
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """
    A metrics output: its numbers, and what is drawn below them.

    :param shapes_left_out: number of shapes that were too many
    """

    table: Table
    shapes: tuple[Drawn, ...] = ()
    shapes_left_out: int = 0


@dataclass(frozen=True)
class Item:
    """
    An artifact of a page.

    :param facts: what is known of it
    :param download: address that gives its content, if a page does
    """

    name: str
    type: str
    size: int | None
    is_tree: bool
    facts: tuple[tuple[str, str], ...]
    download: str | None


@dataclass(frozen=True)
class Page:
    """All that a page of a generation says."""

    asked: Asked
    kind: str
    lead: tuple[tuple[str, str], ...]
    items: tuple[Item, ...]
    items_left_out: int
    measured: tuple[Measured, ...]
    tables: tuple[Table, ...]


def page_of(asked: Asked, found: Found) -> Page:
    """What a page says of what was found."""
    manifest, seal = found.manifest, found.seal
    items = tuple(_item(asked, found, name) for name in islice(manifest.artifacts, MAX_ROWS))
    tables = [_verdict(manifest)]
    tables += _given(seal, found.store, asked)
    tables += [_table("Timings", (), _timings(manifest.timings)), _table("Ran with", (), _surroundings(manifest, seal))]
    return Page(
        asked=asked,
        kind=_cut(manifest.kind),
        lead=_lead(manifest),
        items=items,
        items_left_out=len(manifest.artifacts) - len(items),
        measured=tuple(one for one in _measured(found) if one.table.rows or one.table.note or one.shapes),
        tables=tuple(table for table in tables if table.rows or table.note),
    )


def _lead(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    facts = [("Run", manifest.run), ("Kind", manifest.kind), ("Generation", str(manifest.generation))]
    if manifest.incarnation:
        facts.append(("Run of this name", f"number {manifest.incarnation + 1}"))
    facts += [("Committed by try", str(manifest.try_)), ("Attempt", manifest.attempt)]
    return tuple((name, _cut(value)) for name, value in facts)


def _item(asked: Asked, found: Found, name: str) -> Item:
    artifact = found.manifest.artifacts[name]
    facts = [("URI", artifact.uri), ("Digest", artifact.digest)]
    if artifact.file:
        facts.append(("File", artifact.file))
    if artifact.metadata != found.manifest.metrics.get(name):  # else they have a table of their own
        facts += [(str(key), _json(value)) for key, value in islice(artifact.metadata.items(), MAX_ROWS)]
    return Item(
        name=_cut(name),
        type=_cut(artifact.type),
        size=artifact.size,
        is_tree=artifact.is_tree,
        facts=tuple((_cut(key), _cut(value)) for key, value in facts),
        download=f"{DOWNLOAD}?{asked.query(artifact=name)}" if found.key_of(artifact) is not None else None,
    )


def _measured(found: Found) -> Iterator[Measured]:
    """Metrics outputs; the files of the first are read, for what is drawn."""
    manifest = found.manifest
    others = [name for name, artifact in manifest.artifacts.items() if artifact.type == "metrics"]
    for number, name in enumerate(islice(dict.fromkeys((*manifest.metrics, *others)), MAX_ROWS)):
        scalars = manifest.metrics.get(name, {})
        shapes, problem = shapes_of(found, name) if number < MAX_DRAWN else ({}, "")
        yield Measured(
            replace(_table(f"Metrics: {_cut(name)}", (), _numbers(scalars)), note=_cut(problem)),
            tuple(drawn(key, shape) for key, shape in islice(shapes.items(), MAX_SHAPES)),
            max(0, len(shapes) - MAX_SHAPES),
        )


def _verdict(manifest: Manifest) -> Table:
    """What a gate found, who a pick compared, what a person decided; of any other step, the parameters that it handed on."""
    values = manifest.parameters
    if manifest.kind == "gate" and (found := _objects(values.get("conditions"))):
        rows = [
            (Cell("yes" if one.get("holds") is True else "no"), Cell(_cut(told(one)), number=False)) for one in found
        ]
        return _table(
            "Conditions" if values.get("passed") is True else "Conditions: closed", ("Holds", "Condition"), rows
        )
    if manifest.kind == "pick" and (found := _objects(values.get("compared"))):
        winner = values.get("winner")
        candidates = [
            (
                Cell(_cut(str(one.get("name")))),
                Cell(
                    _json(one.get("value")) if one.get("value") is not None else _cut(str(one.get("why"))), number=True
                ),
                Cell("won" if one.get("name") == winner else ""),
            )
            for one in found
        ]
        return _table("Candidates", ("Name", "Value", ""), candidates)
    if manifest.kind == "approve":
        return _table("Approval", (), _pairs({"Answer": answer_told(values)}))
    return _table("Parameters it handed on", (), _pairs(values))


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list of a document that anybody may have written."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _given(seal: Seal | None, store: Store, asked: Asked) -> list[Table]:
    if seal is None:
        return [Table("Inputs", (), (), note="What this step was given is not kept: it ran no program of its own.")]
    rows = [
        (Cell(_cut(name)), Cell(_cut(item.type)), _origin(item.uri, store, asked), Cell(_cut(item.digest)))
        for name, item in seal.step.inputs.items()
    ]
    return [
        _table("Inputs", ("Name", "Type", "Where it came from", "Digest"), rows),
        _table("Parameters it was given", (), _pairs(seal.step.params)),
    ]


def _origin(uri: str, store: Store, asked: Asked) -> Cell:
    """Where an input came from: the step whose page that is, as the layout of the store tells it, or the address as it is."""
    plain = Cell(_cut(uri))
    try:
        origin = origin_of(store.key(uri))
    except ReferenceRefused:
        return plain
    if origin is None:
        return plain
    place, path = origin
    query = [("dag_id", place.pipeline), ("run_id", place.run), ("task_id", place.step)]
    query += [("generation", str(place.generation)), ("incarnation", str(place.incarnation))][
        : 1 + bool(place.incarnation)
    ]
    query += [("map_index", place.iteration)] * (place.iteration != "-")
    try:
        source = Asked.of(query)
    except Problem:
        return plain
    where = "" if place.pipeline == asked.dag_id else f" of {place.pipeline}"
    when = "" if (place.pipeline, place.run) == (asked.dag_id, asked.run_id) else f", run {place.run}"
    return Cell(_cut(f"{source.title}{where}{when}: {path}"), href=f"{PAGE}?{source.query()}")


def _surroundings(manifest: Manifest, seal: Seal | None) -> list[tuple[Cell, ...]]:
    facts: dict[str, Any] = {}
    if seal is not None:
        facts |= {"runtime": seal.step.runtime, "image": seal.step.image, "source": seal.step.source}
        if (around := seal.runtime) is not None:
            facts |= {"cpu": around.cpu, "memory": around.memory, "gpu": around.gpu or None}
    facts |= manifest.runtime
    return _pairs({name: value for name, value in facts.items() if value is not None})


def _timings(timings: Mapping[str, float]) -> list[tuple[Cell, ...]]:
    rest = dict(timings)
    started, ended = rest.pop("started", None), rest.pop("ended", None)
    shown: dict[str, str] = {}
    if started is not None:
        shown["Started"] = _moment(started)
    if ended is not None:
        shown["Ended"] = _moment(ended)
    if started is not None and ended is not None:
        shown["Took"] = _duration(ended - started)
    if "hash_seconds" in rest:
        shown["Hashing took"] = _duration(rest.pop("hash_seconds"))
    shown |= {name: _json(value) for name, value in rest.items()}
    return [(Cell(_cut(name)), Cell(_cut(value))) for name, value in shown.items()]


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return _json(seconds)


def _duration(seconds: float) -> str:
    if not 0 <= seconds < 1e9:
        return _json(seconds)
    return f"{seconds:.2f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def _pairs(values: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    texts = {str(name): value if isinstance(value, str) else _json(value) for name, value in values.items()}
    return [(Cell(_cut(name)), Cell(_cut(text))) for name, text in texts.items()]


def _numbers(values: Mapping[str, float]) -> list[tuple[Cell, ...]]:
    return [(Cell(_cut(name)), Cell(_json(value), number=True)) for name, value in values.items()]


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[Cell, ...]]) -> Table:
    every = tuple(rows)
    return Table(title, columns, every[:MAX_ROWS], left_out=max(0, len(every) - MAX_ROWS))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
