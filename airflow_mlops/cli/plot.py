# SPDX-License-Identifier: Apache-2.0
"""
A curve in the terminal: one line in dots of Braille characters; several, where colours do not tell them apart, in a character each.

Ours, and no library's: plotext takes 140 ms to import and comes as a compiled wheel, plotille has no form without Braille; this is one canvas.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.curves import Extent, thinned
from airflow_mlops.cli import console as looks

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from airflow_mlops.artifacts.shapes import Curve, Curves

HEIGHT = 13
WIDEST = 100
"""Columns of a picture: a wider one is no clearer."""

POINTS = 1000
LINES = 6
COLOURS = ("cyan", "yellow", "magenta", "green", "red", "blue")
MARKS = "*+ox#@"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character, by row and column."""

_BRAILLE = 0x2800
_LABEL = 40
_SEEN = 60
"""Columns of an axis from which on the middle of it has a number."""


@dataclass(frozen=True)
class Look:
    """
    What a terminal can show.

    :param width: its columns
    :param colour: whether colours tell things apart
    :param ascii: whether there is nothing but ASCII
    """

    width: int
    colour: bool
    ascii: bool

    @classmethod
    def of(cls, console: Console) -> Look:
        """What a console can show."""
        colour = console.color_system is not None and not console.no_color
        return cls(console.width, colour, console.options.ascii_only)

    @property
    def dots(self) -> str:
        """What stands for something left out."""
        return "..." if self.ascii else "…"


class _Canvas:
    """
    Characters that lines are drawn on.

    :param across: dots of a character from left to right, and ``down`` from top to bottom; a mark fills a character
    """

    def __init__(self, width: int, height: int, across: int, down: int) -> None:
        self.width, self.height = width, height
        self._across, self._down = across, down
        self._cells: dict[tuple[int, int], tuple[int, int]] = {}

    def draw(self, line: int, parts: Iterable[tuple[float, float]]) -> None:
        """Draw a line through points, given as parts of the way to the right and up."""
        right, top = self.width * self._across - 1, self.height * self._down - 1
        dots = [(round(x * right), round((1 - y) * top)) for x, y in parts]
        for start, end in dict.fromkeys(zip(dots, dots[1:] or dots, strict=False)):
            steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
            for step in range(steps + 1):
                self._dot(line, *(round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True)))

    def _dot(self, line: int, x: int, y: int) -> None:
        cell = (y // self._down, x // self._across)
        bits, _ = self._cells.get(cell, (0, line))
        self._cells[cell] = (bits | _DOTS[y % self._down][x % self._across], line)

    def row(self, number: int) -> list[tuple[str, int | None]]:
        """The characters of a row, with the line that each is of."""
        end = max((column + 1 for row, column in self._cells if row == number), default=0)
        cells = [self._cells.get((number, column)) for column in range(end)]
        if (self._across, self._down) == (1, 1):
            return [(MARKS[cell[1]], cell[1]) if cell else (" ", None) for cell in cells]
        return [(chr(_BRAILLE | cell[0]), cell[1]) if cell else (" ", None) for cell in cells]


def plot(curve: Curve | Curves, look: Look) -> Text:
    """A picture of a curve, with axes, and a legend if it has several lines."""
    from rich.text import Text

    lines = [(name, line) for name, line in curve.lines() if line.x]
    drawn = [(name, thinned(list(zip(line.x, line.y, strict=True)), POINTS)) for name, line in lines[:LINES]]
    if not drawn:
        return Text("(no points)", style="dim")
    across = Extent.of(x for _, points in drawn for x, _ in points)
    up = Extent.of(y for _, points in drawn for _, y in points)
    heights = {0: up.high, HEIGHT // 2: up.at(0.5), HEIGHT - 1: up.low}
    gutter = max(len(_number(value)) for value in heights.values())
    width = max(8, min(look.width - gutter - 3, WIDEST))
    marks = look.ascii or (len(drawn) > 1 and not look.colour)
    canvas = _Canvas(width, HEIGHT, *((1, 1) if marks else (2, 4)))
    for number, (_, points) in enumerate(drawn):
        canvas.draw(number, [(across.part(x), up.part(y)) for x, y in points])
    text = Text()
    if curve.y_label:
        text.append(f"{looks.shortened(curve.y_label, _LABEL)}\n", style="dim")
    _body(text, canvas, {row: _number(value) for row, value in heights.items()}, gutter, look)
    _foot(text, across, looks.shortened(curve.x_label, _LABEL), gutter, width, look)
    _legend(text, [name for name, _ in drawn], len(lines) - len(drawn), marks, look)
    text.rstrip()
    return text


def _body(text: Text, canvas: _Canvas, labels: dict[int, str], gutter: int, look: Look) -> None:
    for row in range(canvas.height):
        tick = ("+" if look.ascii else "┤") if row in labels else ("|" if look.ascii else "│")
        text.append(f"{labels.get(row, ''):>{gutter}} {tick}", style="dim")
        for char, line in canvas.row(row):
            text.append(char, style=COLOURS[line] if line is not None and look.colour else None)
        text.append("\n")


def _foot(text: Text, across: Extent, label: str, gutter: int, width: int, look: Look) -> None:
    corner, edge = ("+", "-") if look.ascii else ("└", "─")
    text.append(f"{' ' * gutter} {corner}{edge * width}\n", style="dim")
    low, high = _number(across.low), _number(across.high)
    middle = _number(across.at(0.5)) if width >= _SEEN else ""
    room = width - len(low) - len(high)
    text.append(f"{' ' * (gutter + 2)}{low}{middle:^{max(room, 0)}}{high}\n", style="dim")
    if label:
        text.append(f"{' ' * (gutter + 2)}{label:^{width}}".rstrip() + "\n", style="dim")


def _legend(text: Text, names: list[str], left_out: int, marks: bool, look: Look) -> None:
    if len(names) < 2 and not any(names):
        return
    for number, name in enumerate(names):
        sign = MARKS[number] if marks else "━━"
        text.append(sign, style=COLOURS[number] if look.colour else None)
        text.append(f" {looks.shortened(name, _LABEL)}   ")
    if left_out:
        text.append(f"{look.dots} {left_out} more", style="dim")


def _number(value: float) -> str:
    return f"{value:.4g}"
