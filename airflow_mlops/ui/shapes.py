# SPDX-License-Identifier: Apache-2.0
"""
Shapes of metrics as a page draws them: curves as lines of an SVG, matrices and tables as cells, texts.

Here is what goes where, as numbers and texts; the template writes it down and escapes it. All of it was written by programs: it is cut to what a
page can hold, and what was left out is said.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from airflow_mlops.artifacts.curves import Extent, thinned
from airflow_mlops.artifacts.shapes import AnyShape, Curve, Curves, Line, Matrix, Table, is_number

MAX_LINES = 8
MAX_POINTS = 500
"""Points of a line; more are no clearer at the size of a picture."""

MAX_DOTS = 80
"""Points of a curve up to which each is a dot that says what it is."""

MAX_ROWS = 100
MAX_COLUMNS = 40
MAX_TEXT = 10_000
MAX_LABEL = 80
SHADES = 8

LEFT, RIGHT, TOP, BOTTOM = 90, 630, 12, 260
"""Where the axes are in a picture of 640 by 310."""

_TICKS = 5


@dataclass(frozen=True)
class Dot:
    """A point of a line, with what is said of it."""

    x: str
    y: str
    text: str


@dataclass(frozen=True)
class DrawnLine:
    """
    A line of a picture.

    :param number: which of the colours it has
    :param points: coordinates as SVG writes them
    """

    name: str
    number: int
    points: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Picture:
    """
    A curve.

    :param x_ticks: numbers below the horizontal axis: where, and what
    :param legend: whether its lines need names
    """

    x_label: str
    y_label: str
    x_ticks: tuple[tuple[str, str], ...]
    y_ticks: tuple[tuple[str, str], ...]
    lines: tuple[DrawnLine, ...]
    legend: bool


@dataclass(frozen=True)
class GridCell:
    """
    A cell of a table.

    :param shade: how dark it is, up to :data:`SHADES`; ``None`` where cells are not shaded
    """

    text: str
    number: bool
    shade: int | None = None


@dataclass(frozen=True)
class Grid:
    """
    A matrix or a table.

    :param columns: headings, each on the side that its numbers are on
    :param heads: what the rows are called, if they are called anything
    """

    columns: tuple[GridCell, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[GridCell, ...], ...]


@dataclass(frozen=True)
class Drawn:
    """
    A shape of a page: one of picture, grid and text.

    :param key: its name in the metrics file
    :param notes: what the axes of a matrix are, and what was left out
    """

    key: str
    title: str
    picture: Picture | None = None
    grid: Grid | None = None
    text: str | None = None
    notes: tuple[str, ...] = ()


def drawn(key: str, shape: AnyShape) -> Drawn:
    """What a page draws of a shape."""
    name, title = _label(key), _label(shape.title)
    if isinstance(shape, (Curve, Curves)):
        return _curve(name, title, shape)
    if isinstance(shape, Matrix):
        return _matrix(name, title, shape)
    if isinstance(shape, Table):
        return _table(name, title, shape)
    text = shape.text[:MAX_TEXT]
    return Drawn(name, title, text=text, notes=_left_out((len(shape.text) - len(text), "character")))


def _curve(key: str, title: str, curve: Curve | Curves) -> Drawn:
    every = [(name, line) for name, line in curve.lines() if line.x]
    if not every:
        return Drawn(key, title, notes=("No points.",))
    lines = every[:MAX_LINES]
    across = Extent.of(x for _, line in lines for x in line.x)
    up = Extent.of(y for _, line in lines for y in line.y)
    dotted = sum(len(line.x) for _, line in lines) <= MAX_DOTS
    picture = Picture(
        x_label=_label(curve.x_label),
        y_label=_label(curve.y_label),
        x_ticks=tuple((_across(across, value), text) for value, text in ticks(across)),
        y_ticks=tuple((_up(up, value), text) for value, text in ticks(up)),
        lines=tuple(_line(number, name, line, across, up, dotted) for number, (name, line) in enumerate(lines)),
        legend=len(lines) > 1 or bool(lines[0][0]),
    )
    return Drawn(key, title, picture=picture, notes=_left_out((len(every) - len(lines), "line")))


def _line(number: int, name: str, line: Line, across: Extent, up: Extent, dotted: bool) -> DrawnLine:
    points = thinned(list(zip(line.x, line.y, strict=True)), MAX_POINTS)
    dots = [Dot(_across(across, x), _up(up, y), _said(name, line, at)) for at, (x, y) in enumerate(points)]
    written = " ".join(f"{_across(across, x)},{_up(up, y)}" for x, y in points)
    return DrawnLine(_label(name), number, written, tuple(dots) if dotted else ())


def _said(name: str, line: Line, at: int) -> str:
    """What a point says of itself when it is pointed at."""
    said = f"{line.x[at]:.6g}, {line.y[at]:.6g}"
    if line.thresholds is not None and line.thresholds[at] is not None:
        said += f", threshold {line.thresholds[at]:.6g}"
    return f"{_label(name)}: {said}" if name else said


def _across(extent: Extent, value: float) -> str:
    return f"{LEFT + extent.part(value) * (RIGHT - LEFT):.1f}"


def _up(extent: Extent, value: float) -> str:
    return f"{BOTTOM - extent.part(value) * (BOTTOM - TOP):.1f}"


def ticks(extent: Extent) -> list[tuple[float, str]]:
    """Round numbers of an axis, with what is written there."""
    span = extent.high - extent.low
    power = 10.0 ** math.floor(math.log10(span / _TICKS)) if 0 < span / _TICKS and math.isfinite(span) else 0.0
    if not power:  # too far apart, or too near, for their difference to be a number
        values = [extent.low, extent.high]
    else:
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / _TICKS * 0.999)
        first = math.ceil(extent.low / step - 1e-9)
        values = [(first + number) * step for number in range(2 * _TICKS)]
    texts = {f"{value:.6g}": value for value in values if value <= extent.high + span * 1e-9}
    return [(value, text) for text, value in texts.items()]


def _matrix(key: str, title: str, matrix: Matrix) -> Drawn:
    across = len(matrix.values[0]) if matrix.values else 0
    labels = tuple(map(_label, (matrix.labels or ())[:MAX_ROWS]))
    extent = Extent.of(value for row in matrix.values for value in row)
    rows = tuple(
        tuple(GridCell(_text(value), True, round(extent.part(value) * SHADES)) for value in row[:MAX_COLUMNS])
        for row in matrix.values[:MAX_ROWS]
    )
    sides = [
        f"{side}: {_label(name)}" for side, name in (("rows", matrix.y_label), ("columns", matrix.x_label)) if name
    ]
    notes = (", ".join(sides),) if sides else ()
    headings = labels[:MAX_COLUMNS] if across == len(matrix.values) else ()
    return Drawn(
        key,
        title,
        grid=Grid(tuple(GridCell(heading, True) for heading in headings), labels, rows),
        notes=(*notes, *_left_out((len(matrix.values) - MAX_ROWS, "row"), (across - MAX_COLUMNS, "column"))),
    )


def _table(key: str, title: str, table: Table) -> Drawn:
    rows = tuple(
        tuple(GridCell(_text(value), is_number(value)) for value in row[:MAX_COLUMNS]) for row in table.rows[:MAX_ROWS]
    )
    left_out = _left_out((len(table.rows) - MAX_ROWS, "row"), (len(table.columns) - MAX_COLUMNS, "column"))
    columns = tuple(
        GridCell(_label(heading), any(row[at].number for row in rows))
        for at, heading in enumerate(table.columns[:MAX_COLUMNS])
    )
    return Drawn(key, title, grid=Grid(columns, (), rows), notes=left_out)


def _left_out(*parts: tuple[int, str]) -> tuple[str, ...]:
    said = [f"{count} more {noun}{'s' if count > 1 else ''}" for count, noun in parts if count > 0]
    return (f"and {', '.join(said)}",) if said else ()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _label(value)
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _label(text: str) -> str:
    return text if len(text) <= MAX_LABEL else f"{text[:MAX_LABEL]}…"
