# SPDX-License-Identifier: Apache-2.0
"""
What a metrics file may hold besides numbers: curves, matrices, tables and texts, which pages and commands draw.

The models are the format: files are checked with them, and its JSON Schema is made of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

EXPECTED = "expected"
"""Type of a validation error whose text is what was expected in place of the value."""

UNEQUAL = "unequal"
"""Type of a validation error whose text says which parts do not fit together."""


def is_number(value: Any) -> bool:
    """Whether a value of a JSON document is a number, which true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    if not is_number(value):
        raise PydanticCustomError(EXPECTED, "a finite number")
    return value


def _threshold(value: Any) -> Any:
    if value is not None and not is_number(value):
        raise PydanticCustomError(EXPECTED, "a finite number, or null where there is none")
    return value


def _cell(value: Any) -> Any:
    if value is not None and not isinstance(value, (str, int, float)):
        raise PydanticCustomError(EXPECTED, "a number, a text, true, false or null")
    return value


Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Threshold = Annotated[int | float | None, PlainValidator(_threshold), WithJsonSchema({"type": ["number", "null"]})]
Cell = Annotated[
    str | int | float | bool | None,
    PlainValidator(_cell),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]


class Part(BaseModel):
    """A piece of a shape: read strictly."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Line(Part):
    """Points in their order."""

    x: list[Number] = Field(description="Where the points are from left to right")
    y: list[Number] = Field(description="How high they are: as many numbers as x")
    thresholds: list[Threshold] | None = Field(
        default=None, description="The decision threshold of each point; null where it is infinite, or there is none"
    )

    @model_validator(mode="after")
    def _same_lengths(self) -> Line:
        counts = {"x": len(self.x), "y": len(self.y)}
        if self.thresholds is not None:
            counts["thresholds"] = len(self.thresholds)
        if len(set(counts.values())) > 1:
            raise unequal(
                f"{', '.join(f'{count} in {name}' for name, count in counts.items())}; expected as many in each"
            )
        return self


class Series(Line):
    """One of several lines."""

    name: str = Field(description="What it is called in the legend")


class Shape(Part):
    """What all shapes may have."""

    title: str = Field(default="", description="A heading")


class Axes(Shape):
    """What has two directions."""

    x_label: str = Field(default="", description="What the horizontal axis is; of a matrix, what its columns are")
    y_label: str = Field(default="", description="What the vertical axis is; of a matrix, what its rows are")


class Curve(Axes, Line):
    """A curve of one line: ROC, precision and recall, calibration."""

    type: Literal["curve"]

    def lines(self) -> list[tuple[str, Line]]:
        """Its lines by name."""
        return [("", self)]


class Curves(Axes):
    """A curve of several lines: training and validation, one class against the rest, slices of the data."""

    type: Literal["curve"]
    series: list[Series] = Field(description="The lines; each has points of its own")

    def lines(self) -> list[tuple[str, Line]]:
        """Its lines by name."""
        return [(line.name, line) for line in self.series]


class Matrix(Axes):
    """A confusion matrix and the like: numbers in rows, whose cells are shaded."""

    type: Literal["matrix"]
    values: list[list[Number]] = Field(description="Rows of as many numbers each")
    labels: list[str] | None = Field(
        default=None, description="What the rows are called, and the columns if there are as many"
    )

    @model_validator(mode="after")
    def _rectangular(self) -> Matrix:
        lengths = {len(row) for row in self.values}
        if len(lengths) > 1:
            raise unequal(f"rows of {min(lengths)} and of {max(lengths)} numbers; expected as many in each")
        if self.labels is not None and len(self.labels) != len(self.values):
            raise unequal(f"{len(self.labels)} labels and {len(self.values)} rows; expected a label for each row")
        return self


class Table(Shape):
    """Rows of values under headings."""

    type: Literal["table"]
    columns: list[str] = Field(description="The headings")
    rows: list[list[Cell]] = Field(description="Rows of as many values as there are headings")

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise unequal(f"{len(row)} values in rows[{number}] and {len(self.columns)} columns; expected as many")
        return self


class Paragraph(Shape):
    """A text, which is shown as it is."""

    type: Literal["text"]
    text: str = Field(description="The text; its lines are kept")


AnyShape = Curve | Curves | Matrix | Table | Paragraph

KINDS: dict[str, tuple[type[AnyShape], ...]] = {
    "curve": (Curve, Curves),
    "matrix": (Matrix,),
    "table": (Table,),
    "text": (Paragraph,),
}
"""The models by the ``type`` that a file names."""


def model_of(kind: str, value: dict[str, Any]) -> type[AnyShape]:
    """Which model a shape is to fit: a curve that names its series is one of several lines."""
    first, *others = KINDS[kind]
    return others[0] if others and "series" in value else first


def unequal(text: str) -> PydanticCustomError:
    """An error about parts that do not fit together. The text may hold what somebody wrote: it is no template."""
    return PydanticCustomError(UNEQUAL, "{text}", {"text": text})
