# SPDX-License-Identifier: Apache-2.0
"""
Compare two data sets column by column: has what arrives now drifted away from what it is held against?

``drift.py --reference train.csv --current today.csv --metrics drift.json``. Each side is a CSV file with a header, or a folder of such files with
the same columns. Needs NumPy and nothing else.

**PSI**, the population stability index: with the shares ``r`` (reference) and ``c`` (current) of the rows in each bin, the sum of
``(c - r) * ln(c / r)`` over the bins; below 0.1 is called stable, above 0.2 changed (Siddiqi, Credit Risk Scorecards, 2006).

- Bins of numbers lie between the quantiles of the reference. A value that would fill one alone has a bin of its own, so a constant column
  has the bins below, equal and above.
- Bins of texts are the reference's categories. New ones share a bin with those of fewer than 10 rows, which are as rare as what a sample misses.
- Missing values are a bin in both cases, and so is text among numbers.
- A bin that is empty on one side counts as half a row there; one that is empty on both does not count.

Two samples of one population have a PSI, too: for ``B`` bins of ``n`` and ``m`` rows it is about ``1/n + 1/m`` times a chi-square variable with
``B - 1`` degrees of freedom (Yurdakul, Statistical Properties of Population Stability Index, 2018). A column has drifted if its PSI is above the
limit *and* above what chance exceeds in one of about a thousand columns (by the approximation of Wilson and Hilferty, 1931): a handful of rows
raises no alarm.

**KS**, the two-sample Kolmogorov-Smirnov statistic of numbers: the largest distance between the two distribution functions, looked at after
each distinct value, when all that tie have been counted. Its p-value is the asymptotic one with Stephens' correction (Numerical Recipes, 14.3),
which is rough for a handful of rows, and too large where values tie. KS decides only with ``--ks-limit``; its p-value never does, since with
enough rows every difference is significant.

A column that only one side has is drift, too.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import random
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy

MISSING = frozenset(("", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"))
"""What pandas takes for a missing value, too."""

MAX_CATEGORIES = 1000
"""Distinct texts of a column; one with more is free text or an identifier, of which only the missing values are compared."""

MAX_TEXT = 100
"""Characters of a category; of a longer one, the beginning and a digest."""

LEAST_ROWS = 10
"""Rows of a category in the reference, for it to have a bin of its own."""

BATCH = 20_000
"""Cells that are read at a time."""

MAX_ROWS_SHOWN, MAX_LINES, MAX_NAME = 1000, 50, 80
"""A metrics file holds 1 MiB: rows of the table, lines of the text, characters of a column's name."""

LEAST_NUMBERS = 0.9
"""Share of a column's values in the reference that are numbers, for it to be numeric."""


class Unusable(Exception):
    """Data that cannot be compared; the message says why."""


@dataclass
class Column:
    """The values of one column of one side, in no order."""

    numbers: array[float] = field(default_factory=lambda: array("d"))
    texts: Counter[str] = field(default_factory=Counter)
    more_texts: int = 0
    """Rows whose text came when there were too many to count each."""
    missing: int = 0

    def add(self, cells: Sequence[str], known: Collection[str], *, as_texts: bool) -> None:
        """
        Take some cells in.

        :param known: texts that are counted however many others there are
        :param as_texts: whether numbers are texts here
        """
        if not as_texts:
            try:
                found = array("d", map(float, cells))
            except ValueError:
                pass  # not only numbers
            else:
                if "_" not in "".join(cells):  # Python reads 1_000 as a number; nobody else does
                    self._add_numbers(found)
                    return
        for cell, count in Counter(cells).items():
            self._add_text(cell, count, known, as_texts=as_texts)

    def _add_numbers(self, found: array[float]) -> None:
        values = numpy.asarray(found)
        there = values[~numpy.isnan(values)]
        self.missing += len(values) - len(there)
        self.numbers.frombytes(there.tobytes())

    def _add_text(self, cell: str, count: int, known: Collection[str], *, as_texts: bool) -> None:
        if cell.strip() in MISSING:
            self.missing += count
            return
        if not as_texts and "_" not in cell:
            try:
                self._add_numbers(array("d", [float(cell)]) * count)
            except ValueError:
                pass
            else:
                return
        text = cell if len(cell) <= MAX_TEXT else f"{cell[:60]}… {hashlib.sha256(cell.encode()).hexdigest()[:16]}"
        if text in self.texts or text in known or len(self.texts) < MAX_CATEGORIES:
            self.texts[text] += count
        else:
            self.more_texts += count

    @property
    def text_rows(self) -> int:
        return self.texts.total() + self.more_texts

    @property
    def rows(self) -> int:
        return len(self.numbers) + self.text_rows + self.missing

    @property
    def is_numeric(self) -> bool:
        return len(self.numbers) > 0 and len(self.numbers) >= LEAST_NUMBERS * (len(self.numbers) + self.text_rows)

    def categories(self, other: Column | None = None) -> Counter[str]:
        """
        How often each text occurs; numbers among them are texts. Of too many numbers, some are left out.

        :param other: one whose numbers are not left out
        """
        values, counts = numpy.unique(numpy.asarray(self.numbers), return_counts=True)
        told = numpy.isin(values, numpy.asarray(other.numbers if other else []))
        told[: MAX_CATEGORIES + 1] = True
        texts = map(repr, values[told].tolist())
        return self.texts + Counter(dict(zip(texts, counts[told].tolist(), strict=True)))


@dataclass
class Side:
    """One of the two data sets."""

    columns: dict[str, Column]
    left_out: list[str]
    rows: int
    kept: int
    """Rows that were compared; fewer than all if they were too many."""


# Reading


def files_of(path: Path) -> list[Path]:
    """
    The CSV files of a side.

    :raises Unusable: if there are none
    """
    if not path.exists():
        raise Unusable(f"{path} does not exist; expected a CSV file, or a folder of them")
    files = sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise Unusable(f"{path} has no file *.csv in it")
    return files


def rows_of(file: Path, delimiter: str) -> Iterator[list[str]]:
    """
    The header of a file, and then its rows, each as long as the header. Blank lines are none.

    :raises Unusable: if it is no CSV, or no UTF-8
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise Unusable(f"{file} is empty; expected a line with the names of the columns")
            if twice := [name for name, count in Counter(header).items() if count > 1]:
                raise Unusable(f"{file} has two columns {twice[0]!r}; expected each name once")
            yield header
            for row in reader:
                if len(row) != len(header) and row:
                    raise Unusable(f"{file}, line {reader.line_num}: {len(row)} values; expected {len(header)}")
                if row:
                    yield row
        except csv.Error as error:
            raise Unusable(f"{file}, line {reader.line_num}: {error}; expected CSV") from None
        except UnicodeDecodeError as error:
            raise Unusable(f"{file}: {error}; expected UTF-8") from None


def read(
    path: Path,
    *,
    leave_out: Collection[str] = (),
    categorical: Collection[str] = (),
    known: Mapping[str, Collection[str]] | None = None,
    delimiter: str = ",",
    max_values: int = 10_000_000,
) -> Side:
    """
    Read one side.

    :param leave_out: columns that are not looked at
    :param categorical: columns whose numbers are codes
    :param known: the other side's categories, by column
    :param max_values: how many values are kept, 8 bytes each; of more rows, some are drawn, the same ones each time
    :raises Unusable: if that is not possible
    """
    files = files_of(path)
    names, rows = _measured(files, delimiter)
    columns = {name: Column() for name in names if name not in leave_out}
    share = min(1.0, max_values / max(1, rows * len(columns)))
    draw = random.Random(rows)  # noqa: S311 - no secret
    for file in files:
        lines = rows_of(file, delimiter)
        header = next(lines)
        drawn: Iterable[list[str]] = lines if share == 1 else (row for row in lines if draw.random() < share)
        while batch := list(islice(drawn, max(1, BATCH // len(header)))):
            for name, cells in zip(header, zip(*batch, strict=True), strict=True):
                if name in columns:
                    columns[name].add(cells, (known or {}).get(name, ()), as_texts=name in categorical)
    if not columns:
        raise Unusable(f"{path} has no column that is not left out")
    kept = next(iter(columns.values())).rows
    if not kept:
        raise Unusable(f"{path} has a header and no rows")
    return Side(columns, [name for name in names if name in leave_out], rows, kept)


def _measured(files: Sequence[Path], delimiter: str) -> tuple[list[str], int]:
    """The columns of the files, and the number of their rows."""
    names: list[str] = []
    rows = 0
    for file in files:
        lines = rows_of(file, delimiter)
        header = next(lines)
        names = names or header
        if other := sorted(set(names) ^ set(header)):
            raise Unusable(f"{file} and {files[0]} are parts of one data set, and only one has the column {other[0]!r}")
        rows += sum(1 for _ in lines)
    return names, rows


# Comparing


def psi_of(reference: Sequence[int], current: Sequence[int]) -> tuple[float, float]:
    """
    PSI of two histograms with the same bins.

    :return: PSI, and what chance alone exceeds in one of a thousand
    """
    counts = numpy.array([reference, current], dtype=float)
    totals = counts.sum(axis=1)
    counts = counts[:, counts.any(axis=0)]
    shares = numpy.maximum(counts, 0.5) / totals[:, None]
    psi = float(((shares[1] - shares[0]) * numpy.log(shares[1] / shares[0])).sum())
    free = counts.shape[1] - 1
    if free < 1:
        return psi, 0.0
    chi_square = free * (1 - 2 / (9 * free) + 3.0902 * math.sqrt(2 / (9 * free))) ** 3
    return psi, float(chi_square * (1 / totals).sum())


def edges_of(ordered: Any, bins: int) -> Any:
    """Upper edges of bins, which belong to them: quantiles of ordered numbers. A number that would fill a bin has one of its own."""
    places = -(-len(ordered) * numpy.arange(1, bins) // bins) - 1
    edges = numpy.unique(ordered[places])
    times = numpy.searchsorted(ordered, edges, "right") - numpy.searchsorted(ordered, edges, "left")
    below = numpy.nextafter(edges[times * bins >= len(ordered)], -numpy.inf)
    return numpy.unique(numpy.concatenate([edges, below]))


def ks_of(one: Any, other: Any) -> tuple[float, float]:
    """The two-sample KS statistic of ordered numbers, and its p-value."""
    values = numpy.concatenate([one, other])
    apart = numpy.searchsorted(one, values, "right") / len(one) - numpy.searchsorted(other, values, "right") / len(
        other
    )
    statistic = float(numpy.abs(apart).max())
    root = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    scaled = statistic * (root + 0.12 + 0.11 / root)
    if scaled < 0.2:  # where the series does not converge, and is 1 to all digits
        return statistic, 1.0
    series = sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return statistic, min(1.0, max(0.0, 2 * series))


@dataclass
class Found:
    """What there is to say of one column."""

    name: str
    kind: str
    drifted: bool
    psi: float | None = None
    ks: float | None = None
    p_value: float | None = None
    missing_before: float | None = None
    missing_after: float | None = None
    new: list[str] = field(default_factory=list)
    why: str = ""


def compare(
    reference: Side, current: Side, *, psi_limit: float = 0.2, ks_limit: float | None = None, bins: int = 10
) -> list[Found]:
    """
    Compare two sides, column by column; what has drifted comes first, and the largest PSI.

    :raises Unusable: if they have no column in common
    """
    if not reference.columns.keys() & current.columns.keys():
        raise Unusable(
            f"no column is in both: the reference has {_some(reference.columns)}, the current data {_some(current.columns)}"
        )
    found = [
        compare_column(name, column, current.columns[name], psi_limit, ks_limit, bins)
        for name, column in reference.columns.items()
        if name in current.columns
    ]
    for side, other, kind, where in (
        (reference, current, "gone", "only in the reference"),
        (current, reference, "new", "only in the current data"),
    ):
        found += [Found(name, kind, True, why=where) for name in side.columns if name not in other.columns]
    return sorted(found, key=lambda one: (not one.drifted, -(one.psi if one.psi is not None else math.inf), one.name))


def compare_column(
    name: str, reference: Column, current: Column, psi_limit: float, ks_limit: float | None, bins: int
) -> Found:
    """Compare what both sides have of a column."""
    found = Found(name, "numeric", False)
    found.missing_before, found.missing_after = reference.missing / reference.rows, current.missing / current.rows
    sides = (reference, current)
    if reference.is_numeric:
        numbers = [numpy.sort(numpy.asarray(side.numbers)) for side in sides]
        edges = edges_of(numbers[0], bins)
        before, after = (
            numpy.bincount(numpy.searchsorted(edges, values), minlength=len(edges) + 1).tolist() for values in numbers
        )
        before.append(reference.text_rows)
        after.append(current.text_rows)
        found.new = sorted(current.texts.keys() - reference.texts.keys())
        if len(current.numbers):
            found.ks, found.p_value = ks_of(*numbers)
    else:
        categories = reference.categories()
        if reference.more_texts or len(categories) > MAX_CATEGORIES:
            found.kind = "text"
            before, after = ([len(side.numbers) + side.text_rows] for side in sides)
        else:
            found.kind = "categorical"
            now = current.categories(reference)
            found.new = sorted(now.keys() - categories.keys())
            common = [text for text, count in categories.items() if count >= LEAST_ROWS]
            before, after = ([side[text] for text in common] for side in (categories, now))
            before.append(reference.rows - reference.missing - sum(before))
            after.append(current.rows - current.missing - sum(after))
    found.psi, chance = psi_of([*before, reference.missing], [*after, current.missing])
    reasons = []
    if found.psi > max(psi_limit, chance):
        reasons.append(f"PSI {found.psi:.3g}")
    if ks_limit is not None and found.ks is not None and found.ks > ks_limit:
        reasons.append(f"KS {found.ks:.3g}")
    found.drifted = bool(reasons)
    if found.psi > psi_limit and not reasons:
        reasons.append(f"too few rows to tell: up to {chance:.3g} is chance")
    found.why = "; ".join([*reasons, *_remarks(found, current)])
    return found


def _remarks(found: Found, current: Column) -> Iterator[str]:
    """What else somebody who looks at the column wants to know."""
    if found.kind == "text":
        yield f"more than {MAX_CATEGORIES} distinct values: only missing ones are compared"
    if found.new:
        what = "text among numbers" if found.kind == "numeric" else "new"
        yield f"{what}: {_some(found.new)}{' and more' if current.more_texts else ''}"
    before, after = found.missing_before or 0, found.missing_after or 0
    if abs(after - before) >= 0.01:
        yield f"missing {before:.1%}, now {after:.1%}"


def _some(names: Collection[str]) -> str:
    """A few of some names."""
    shown = ", ".join(repr(name if len(name) <= 30 else f"{name[:30]}…") for name in islice(names, 5))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


# Telling


def metrics_of(found: Sequence[Found], reference: Side, current: Side) -> dict[str, Any]:
    """The metrics file: numbers for gates, a table and a text for people."""
    drifted = [one for one in found if one.drifted]
    columns = "column kind drifted psi ks p_value missing_before missing_after new_categories".split()
    table = [
        [
            _name(one),
            one.kind,
            one.drifted,
            *(_rounded(value) for value in (one.psi, one.ks, one.p_value, one.missing_before, one.missing_after)),
            len(one.new),
        ]
        for one in found[:MAX_ROWS_SHOWN]
    ]
    left = len(found) - len(table)
    return {
        "columns": len(found),
        "drifted_columns": len(drifted),
        "share_drifted": len(drifted) / len(found),
        "max_psi": max(one.psi or 0.0 for one in found),
        "max_ks": max(one.ks or 0.0 for one in found),
        "columns_gone": sum(one.kind == "gone" for one in found),
        "columns_new": sum(one.kind == "new" for one in found),
        "rows_reference": reference.rows,
        "rows_current": current.rows,
        "drift": {
            "type": "table",
            "title": "Drift by column" + (f" ({left} more, less drifted, are left out)" if left else ""),
            "columns": columns,
            "rows": table,
        },
        "verdict": {"type": "text", "title": "What drifted", "text": "\n".join(_lines(found, reference, current))},
    }


def _lines(found: Sequence[Found], reference: Side, current: Side) -> Iterator[str]:
    drifted = [one for one in found if one.drifted]
    yield f"{len(drifted)} of {len(found)} columns drifted."
    told = [*drifted, *(one for one in found if one.why and not one.drifted)]
    for one in told[:MAX_LINES]:
        yield f"{_name(one)}: {'' if one.drifted else 'not drifted; '}{one.why}"
    if len(told) > MAX_LINES:
        yield f"and {len(told) - MAX_LINES} more"
    for what, side in (("reference", reference), ("current data", current)):
        if side.kept < side.rows:
            yield f"Of {side.rows} rows of the {what}, {side.kept} were drawn at random."


def _name(found: Found) -> str:
    return found.name if len(found.name) <= MAX_NAME else f"{found.name[:MAX_NAME]}…"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def main(words: Sequence[str] | None = None) -> None:
    """Read, compare, write."""
    parser = argparse.ArgumentParser(
        description="Compare two data sets column by column, and write what drifted as metrics."
    )
    parser.add_argument(
        "--reference", required=True, type=Path, help="CSV file or folder of them: what is compared with"
    )
    parser.add_argument("--current", required=True, type=Path, help="CSV file or folder of them: what has arrived")
    parser.add_argument("--metrics", required=True, type=Path, help="file to write")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="COLUMN", help="not looked at; may be repeated"
    )
    parser.add_argument(
        "--categorical", action="append", default=[], metavar="COLUMN", help="its numbers are codes; may be repeated"
    )
    parser.add_argument(
        "--psi-limit", type=float, default=0.2, help="PSI above which a column has drifted (default: 0.2)"
    )
    parser.add_argument(
        "--ks-limit", type=float, help="KS statistic above which it has, too (default: KS does not decide)"
    )
    parser.add_argument("--bins", type=int, default=10, help="bins between the reference's quantiles (default: 10)")
    parser.add_argument("--delimiter", default=",", help="between the values of a row (default: a comma)")
    parser.add_argument(
        "--max-values",
        type=int,
        default=10_000_000,
        help="values of a side that are kept, 8 bytes each; of more, rows are drawn",
    )
    given = parser.parse_args(words)
    if not 2 <= given.bins <= 1000:
        parser.error(f"--bins is {given.bins}; expected 2 to 1000")
    if len(given.delimiter) != 1:
        parser.error(f"--delimiter is {given.delimiter!r}; expected one character")
    how = {
        "leave_out": given.leave_out,
        "categorical": given.categorical,
        "delimiter": given.delimiter,
        "max_values": given.max_values,
    }
    try:
        reference = read(given.reference, **how)
        known = {name: column.texts.keys() for name, column in reference.columns.items()}
        current = read(given.current, known=known, **how)
        _ensure_there([*given.leave_out, *given.categorical], reference, current)
        found = compare(reference, current, psi_limit=given.psi_limit, ks_limit=given.ks_limit, bins=given.bins)
    except Unusable as error:
        _refuse(error)
    metrics = metrics_of(found, reference, current)
    given.metrics.write_text(json.dumps(metrics, allow_nan=False, ensure_ascii=False), encoding="utf-8")
    print(metrics["verdict"]["text"])


def _ensure_there(names: Sequence[str], *sides: Side) -> None:
    """
    A misspelt option would be one that is not there.

    :raises Unusable: if neither side has such a column
    """
    there = {name for side in sides for name in (*side.columns, *side.left_out)}
    if unknown := [name for name in names if name not in there]:
        raise Unusable(f"no side has a column {unknown[0]!r}, which an option names; there are {_some(sorted(there))}")


def _refuse(error: Unusable) -> NoReturn:
    sys.exit(f"cannot compare: {error}")


if __name__ == "__main__":
    main()
