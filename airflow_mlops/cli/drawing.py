# SPDX-License-Identifier: Apache-2.0
"""
Metrics in the terminal: numbers, and the shapes that are small enough to be looked at there.

All of it was written by programs: texts lose what a terminal would obey, and what is large is cut, with a note of what was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.curves import Extent
from airflow_mlops.artifacts.shapes import Curve, Curves, Matrix, Paragraph, Table
from airflow_mlops.cli import console as looks
from airflow_mlops.cli.plot import Look, plot

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from airflow_mlops.artifacts.metrics import Metrics
    from airflow_mlops.artifacts.shapes import AnyShape

MAX_SHAPES = 20
MAX_ROWS = 20
MAX_SCALARS = 50
MAX_TEXT = 2000
"""Characters of a text; it has as many lines as a table has rows."""

_CELL = 24
_NAME = 40
_GAP = 2
_SHADES = {False: " ░▒▓█", True: " .:+#"}
"""What a shade is where there are no colours: with all characters, and in ASCII."""

_GROUNDS = ("#eaf2fb", "#c6dcf4", "#8fbbe8", "#4a8fd6", "#0a5cc2")
_INKS = ("#1b1f24", "#1b1f24", "#1b1f24", "#ffffff", "#ffffff")
"""Colours of shades, which need no certain background."""


def draw_metrics(console: Console, metrics: Metrics) -> None:
    """Print numbers as a table, and shapes below it."""
    from rich.text import Text

    look = Look.of(console)
    _scalars(console, metrics, look)
    for key in list(metrics.shapes)[:MAX_SHAPES]:
        shape = metrics.shapes[key]
        title = f"  {looks.shortened(shape.title, _NAME * 2)}" if shape.title else ""
        console.print()
        console.print(Text.assemble((looks.shortened(key, _NAME), "bold"), title))
        _shape(console, shape, look)
    _note(console, look, (len(metrics.shapes) - MAX_SHAPES, "shape"))


def _scalars(console: Console, metrics: Metrics, look: Look) -> None:
    if not metrics.scalars:
        return
    table = looks.make_table("metric", "value", right=("value",), whole=("metric", "value"))
    for key in list(metrics.scalars)[:MAX_SCALARS]:
        table.add_row(looks.shortened(key, _NAME), _plain(metrics.scalars[key]))
    console.print(table)
    _note(console, look, (len(metrics.scalars) - MAX_SCALARS, "number"))


def _shape(console: Console, shape: AnyShape, look: Look) -> None:
    if isinstance(shape, (Curve, Curves)):
        console.print(plot(shape, look))
    elif isinstance(shape, Matrix):
        _matrix(console, shape, look)
    elif isinstance(shape, Table):
        _table(console, shape, look)
    else:
        _text(console, shape, look)


def _matrix(console: Console, matrix: Matrix, look: Look) -> None:
    """A matrix with shaded cells; the headings of its columns are its labels, if it has as many columns as rows."""
    from rich.text import Text

    rows, across = matrix.values[:MAX_ROWS], len(matrix.values[0]) if matrix.values else 0
    if not across:
        console.print(Text("(no values)", style="dim"))
        return
    most = look.width  # more columns do not fit, however narrow they are
    labels = [looks.shortened(label, _CELL) for label in (matrix.labels or ())[: max(most, MAX_ROWS)]]
    headings = labels[:most] if labels and across == len(matrix.values) else [""] * min(across, most)
    heads: list[list[str | Text]] = [["", *labels[:MAX_ROWS]]] if labels else []
    extent = Extent.of(value for row in matrix.values for value in row)
    cells = [[_shaded(value, extent, look) for value in row[:most]] for row in rows]
    columns: list[list[str | Text]] = [[heading, *(row[at] for row in cells)] for at, heading in enumerate(headings)]
    fitting = _fit([*heads, *columns], look.width)
    if matrix.x_label or matrix.y_label:
        sides = [
            f"{side}: {looks.shortened(name, _NAME)}"
            for side, name in (("rows", matrix.y_label), ("columns", matrix.x_label))
            if name
        ]
        console.print(Text(", ".join(sides), style="dim"))
    _grid(console, fitting, right=range(len(heads), len(fitting)))
    left_out = across + len(heads) - len(fitting)
    _note(console, look, (len(matrix.values) - len(rows), "row"), (left_out, "column"))


def _shaded(value: float, extent: Extent, look: Look) -> Text:
    from rich.text import Text

    level = round(extent.part(value) * (len(_GROUNDS) - 1))
    if look.colour:
        return Text(f" {_plain(value)} ", style=f"{_INKS[level]} on {_GROUNDS[level]}")
    return Text(f"{_SHADES[look.ascii][level] * 2} {_plain(value)}".lstrip())


def _table(console: Console, table: Table, look: Look) -> None:
    rows = table.rows[:MAX_ROWS]
    columns: list[list[str | Text]] = [
        [looks.shortened(heading, _CELL), *(_cell(row[at]) for row in rows)]
        for at, heading in enumerate(table.columns[: look.width])
    ]
    numbers = [at for at in range(len(columns)) if any(_is_number(row[at]) for row in rows)]
    fitting = _fit(columns, look.width)
    _grid(console, fitting, right=numbers)
    _note(console, look, (len(table.rows) - len(rows), "row"), (len(table.columns) - len(fitting), "column"))


def _text(console: Console, paragraph: Paragraph, look: Look) -> None:
    from rich.text import Text

    lines = paragraph.text[:MAX_TEXT].splitlines(keepends=True)[:MAX_ROWS]
    for line in lines:
        console.print(Text(looks.printable(line.splitlines()[0])))
    _note(console, look, (len(paragraph.text) - sum(map(len, lines)), "character"))


def _grid(console: Console, columns: Sequence[Sequence[str | Text]], right: Sequence[int]) -> None:
    """Print columns that fit, the first cell of each as its heading."""
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_edge=False)
    grid.show_header = any(str(column[0]) for column in columns)
    for at, column in enumerate(columns):
        grid.add_column(column[0], justify="right" if at in right else "left", no_wrap=True)
    for row in zip(*(column[1:] for column in columns), strict=True):
        grid.add_row(*row)
    console.print(grid)


def _fit(columns: list[list[str | Text]], width: int) -> list[list[str | Text]]:
    """As many columns as have room, the first in any case."""
    from rich.cells import cell_len

    used = 0
    fitting: list[list[str | Text]] = []
    for column in columns:
        used += max((cell_len(str(cell)) for cell in column), default=0) + _GAP
        if fitting and used - _GAP > width:
            break
        fitting.append(column)
    return fitting


def _note(console: Console, look: Look, *left_out: tuple[int, str]) -> None:
    """Say how much is not shown, if that is so."""
    from rich.text import Text

    parts = [f"{count} more {noun}{'s' if count > 1 else ''}" for count, noun in left_out if count > 0]
    if parts:
        console.print(Text(f"{look.dots} {', '.join(parts)}", style="dim"))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return looks.shortened(value, _CELL)
    return _plain(value) if _is_number(value) else looks.scalar(value)


def _plain(value: float) -> str:
    """A number as a person would write it: all digits of a count, six of a measurement."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
