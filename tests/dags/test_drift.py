# SPDX-License-Identifier: Apache-2.0
"""The step that compares two data sets: its numbers are those of the books, it raises no false alarm, and it takes what people call CSV."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_mlops.artifacts.metrics import parse_metrics
from tests.dags.by_hand import EXAMPLES
from tests.parts.requirement import required_parts

PROGRAM = EXAMPLES / "drift-watch" / "src" / "drift.py"

Rows = list[dict[str, Any]]


def need(module: str) -> Any:
    """A library of the examples, or a skipped test; where parts are required, a failed one."""
    if importlib.util.find_spec(module) is None:
        (pytest.fail if required_parts() else pytest.skip)(f"needs {module}; run: uv pip install scikit-learn")
    return importlib.import_module(module)


@pytest.fixture(scope="module")
def drift() -> Any:
    """The program as a module."""
    need("numpy")
    spec = importlib.util.spec_from_file_location("drift_step", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["drift_step"] = module  # where dataclasses look for it
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # an example's folder stays as it is
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


def write(path: Path, rows: Rows, header: list[str] | None = None) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


class Compare:
    """Runs the step on two lists of rows, or on files that are there."""

    def __init__(self, drift: Any, folder: Path) -> None:
        self.drift = drift
        self.folder = folder
        self.text = ""

    def __call__(self, reference: Rows | Path, current: Rows | Path, *options: str) -> dict[str, Any]:
        sides = [
            side if isinstance(side, Path) else write(self.folder / f"{name}.csv", side)
            for name, side in (("reference", reference), ("current", current))
        ]
        out = self.folder / "metrics.json"
        out.unlink(missing_ok=True)
        self.drift.main([f"--reference={sides[0]}", f"--current={sides[1]}", f"--metrics={out}", *options])
        parse_metrics(out.read_bytes(), ["drifted_columns", "share_drifted", "max_psi", "max_ks"])
        metrics: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        self.text = metrics["verdict"]["text"]
        return metrics

    def column(self, reference: list[Any], current: list[Any], *options: str) -> dict[str, Any]:
        """What is said of one column, ``x``."""
        metrics = self(
            [{"x": value, "_": 0} for value in reference], [{"x": value, "_": 0} for value in current], *options
        )
        return by_column(metrics)["x"]


def by_column(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    table = metrics["drift"]
    return {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}


@pytest.fixture
def compare(drift: Any, tmp_path: Path) -> Compare:
    return Compare(drift, tmp_path)


# The numbers


def test_psi_of_a_table_is_the_sum_that_one_does_by_hand(drift: Any) -> None:
    psi, _ = drift.psi_of([20, 30, 50], [10, 30, 60])
    assert psi == pytest.approx(-0.1 * math.log(0.1 / 0.2) + 0 + 0.1 * math.log(0.6 / 0.5), rel=1e-12)


def test_an_empty_bin_counts_as_half_a_row_and_one_that_both_lack_does_not_count(drift: Any) -> None:
    psi, _ = drift.psi_of([100, 0, 0], [80, 20, 0])
    assert psi == pytest.approx(-0.2 * math.log(0.8) + (0.2 - 0.005) * math.log(0.2 / 0.005), rel=1e-12)
    assert drift.psi_of([100, 0, 0], [80, 20, 0]) == drift.psi_of([100, 0], [80, 20])


def test_numbers_are_binned_by_the_quantiles_of_the_reference(compare: Compare) -> None:
    # Ten bins of ten; the current data has none in the lowest five, and twenty in each of the others.
    found = compare.column(list(range(100)), [50 + value // 2 for value in range(100)])
    expected = 5 * (0.005 - 0.1) * math.log(0.005 / 0.1) + 5 * 0.1 * math.log(2)
    assert found["psi"] == pytest.approx(expected, rel=1e-3)
    assert (found["kind"], found["drifted"], found["ks"]) == ("numeric", True, 0.5)


def test_psi_of_categories_has_a_bin_for_all_new_ones_and_one_for_missing_values(compare: Compare) -> None:
    before = ["a"] * 50 + ["b"] * 40 + [""] * 10
    after = ["a"] * 50 + ["b"] * 20 + ["c"] * 8 + ["d"] * 2 + [""] * 20
    found = compare.column(before, after)
    expected = -0.2 * math.log(0.5) + (0.1 - 0.005) * math.log(0.1 / 0.005) + 0.1 * math.log(2)
    assert found["psi"] == pytest.approx(expected, rel=1e-3)
    assert (found["kind"], found["new_categories"], found["drifted"]) == ("categorical", 2, True)
    assert (found["missing_before"], found["missing_after"], found["ks"]) == (0.1, 0.2, None)
    assert "x: PSI 0.493; new: 'c', 'd'; missing 10.0%, now 20.0%" in compare.text


def test_ks_is_scipys_with_ties_and_without(drift: Any) -> None:
    numpy, stats = need("numpy"), need("scipy.stats")
    random = numpy.random.default_rng(0)
    for size, other, digits in [(10, 7, 0), (100, 80, 0), (1000, 3000, 1), (500, 500, 8)]:
        one, two = (numpy.sort(random.normal(move, size=n).round(digits)) for move, n in ((0, size), (0.3, other)))
        expected = stats.ks_2samp(one, two)
        statistic, p_value = drift.ks_of(one, two)
        assert statistic == pytest.approx(expected.statistic, abs=1e-12)
        assert p_value == pytest.approx(expected.pvalue, abs=0.05)
        assert drift.ks_of(two, one) == pytest.approx((statistic, p_value))


def test_what_chance_exceeds_is_about_scipys_chi_square(drift: Any) -> None:
    stats = need("scipy.stats")
    for bins in (2, 5, 11, 200):
        _, chance = drift.psi_of([100] * bins, [50] * bins)
        expected = stats.chi2.ppf(0.999, bins - 1) * (1 / (100 * bins) + 1 / (50 * bins))
        assert chance == pytest.approx(expected, rel=0.05)


def test_samples_of_one_population_raise_an_alarm_in_a_few_of_a_thousand_columns_at_most(drift: Any) -> None:
    numpy = need("numpy")
    random = numpy.random.default_rng(0)

    def alarm(rows: int, others: int) -> bool:
        one, two = numpy.sort(random.normal(size=rows)), random.normal(size=others)
        edges = drift.edges_of(one, 10)
        counts = [numpy.bincount(numpy.searchsorted(edges, side), minlength=len(edges) + 1) for side in (one, two)]
        psi, chance = drift.psi_of(*(side.tolist() for side in counts))
        return bool(psi > max(0.2, chance))

    for sizes in ((5, 5), (20, 1000), (60, 50), (280, 280)):
        assert sum(alarm(*sizes) for _ in range(1000)) <= 8, sizes


# Columns of all kinds


@pytest.mark.parametrize("moved", [-1, 1])
def test_a_constant_column_that_takes_another_value_has_drifted_in_either_direction(
    compare: Compare, moved: int
) -> None:
    assert compare.column([3] * 100, [3] * 60)["psi"] == 0
    assert compare.column([3] * 100, [3 + moved] * 60)["drifted"] is True


def test_a_value_that_many_rows_have_is_a_bin_of_its_own(compare: Compare) -> None:
    before = [0] * 60 + list(range(1, 41))
    assert compare.column(before, before * 3)["psi"] == pytest.approx(0, abs=1e-9)
    found = compare.column(before, [-1] * 60 + list(range(1, 41)))
    assert found["drifted"] is True  # quantiles alone would have -1 and 0 in one bin
    assert found["ks"] == 0.6


def test_text_among_numbers_is_told_and_counts(compare: Compare) -> None:
    before = list(range(100))
    found = compare.column(before, [*range(70), *["n/k"] * 30])
    assert (found["kind"], found["drifted"], found["new_categories"]) == ("numeric", True, 1)
    assert "text among numbers: 'n/k'" in compare.text
    found = compare.column(before, ["broken"] * 100)
    assert (found["drifted"], found["ks"], found["p_value"]) == (True, None, None)


def test_nan_is_missing_and_infinity_a_large_number(compare: Compare) -> None:
    before = [*range(98), "nan", "-inf"]
    found = compare.column(before, [*range(88), *["NaN"] * 9, *["inf"] * 2, "-inf"])
    assert (found["kind"], found["missing_before"], found["missing_after"]) == ("numeric", 0.01, 0.09)
    assert math.isfinite(found["psi"]) and math.isfinite(found["ks"])


def test_columns_that_one_side_lacks_are_drift_and_are_named(compare: Compare) -> None:
    rows = [{"same": value % 7, "gone": value} for value in range(50)]
    metrics = compare(rows, [{"same": row["same"], "fresh": 1} for row in rows])
    assert (metrics["drifted_columns"], metrics["columns"]) == (2, 3)
    assert (metrics["columns_gone"], metrics["columns_new"]) == (1, 1)
    assert "gone: only in the reference" in compare.text and "fresh: only in the current data" in compare.text


def test_identifiers_and_free_text_are_not_taken_for_drift_unless_they_go_missing(compare: Compare) -> None:
    before, after = ([f"{side}-{value}" for value in range(3000)] for side in ("old", "new"))
    found = compare.column(before, after)
    assert (found["kind"], found["psi"], found["drifted"]) == ("text", 0, False)
    assert "more than 1000 distinct values" in compare.text
    assert compare.column(before, after[:1000] + [""] * 2000)["drifted"] is True


def test_categories_that_come_after_a_thousand_new_ones_are_still_counted(compare: Compare) -> None:
    found = compare.column(["a"] * 100, [*(f"new-{value}" for value in range(1500)), *["a"] * 1500])
    expected = (0.5 - 1) * math.log(0.5) + (0.5 - 0.005) * math.log(0.5 / 0.005)
    assert found["psi"] == pytest.approx(expected, rel=1e-3)


def test_codes_are_categories_if_they_are_said_to_be(compare: Compare) -> None:
    before, after = [1, 2, 3] * 30, [1, 2, 4] * 30
    assert compare.column(before, after)["kind"] == "numeric"
    found = compare.column(before, after, "--categorical=x")
    assert (found["kind"], found["new_categories"], found["drifted"]) == ("categorical", 1, True)


def test_a_text_column_that_became_numbers_has_drifted(compare: Compare) -> None:
    found = compare.column(["low", "high"] * 50, list(range(5000)))
    assert (found["kind"], found["drifted"]) == ("categorical", True)


def test_where_many_values_are_no_numbers_those_that_are_ones_are_categories(compare: Compare) -> None:
    before = ["a"] * 40 + ["1"] * 40 + ["1.0"] * 20
    found = compare.column(before, ["a"] * 40 + ["2"] * 60)
    assert (found["kind"], found["new_categories"]) == ("categorical", 1)
    expected = (0.6 - 0.005) * math.log(0.6 / 0.005) * 2  # all that were 1, and all that are new
    assert found["psi"] == pytest.approx(expected, rel=1e-3)


def test_what_only_python_reads_as_a_number_is_none(compare: Compare) -> None:
    assert compare.column(["1_000", "2_000"] * 50, ["1_000"] * 50)["kind"] == "categorical"


def test_one_row_raises_no_alarm_and_says_why(compare: Compare) -> None:
    found = compare.column(list(range(1000)), [-5])
    assert found["psi"] > 0.2 and found["drifted"] is False
    assert "not drifted; too few rows to tell" in compare.text


def test_ks_decides_only_where_it_is_told_to(compare: Compare) -> None:
    before, after = list(range(1000)), [value + 100 for value in range(1000)]
    lenient = compare.column(before, after, "--psi-limit=9")
    assert (lenient["drifted"], lenient["ks"]) == (False, 0.1)
    assert compare.column(before, after, "--psi-limit=9", "--ks-limit=0.09")["drifted"] is True


def test_what_is_left_out_is_not_looked_at(compare: Compare) -> None:
    before = [{"x": value, "label": 0} for value in range(100)]
    metrics = compare(before, [{"x": value} for value in range(100)], "--leave-out=label")
    assert (metrics["columns"], metrics["drifted_columns"]) == (1, 0)


# Files of all kinds


def test_folders_quoted_line_ends_and_byte_order_marks_are_csv(compare: Compare, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    (folder / "day=2").mkdir(parents=True)
    (folder / "a.csv").write_bytes('\ufeffn,text\r\n1,"two\nlines"\r\n\r\n2,"a ""quote"""\r\n'.encode())
    (folder / "day=2" / "b.csv").write_text("text,n\nplain,3\n")
    (folder / "notes.txt").write_text("no data")
    metrics = compare(folder, folder)
    assert (metrics["rows_current"], sorted(by_column(metrics))) == (3, ["n", "text"])
    assert by_column(metrics)["n"]["kind"] == "numeric"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a line with the names of the columns"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"x,y\n", "has a header and no rows"),
        (b"x,x\n1,2\n", "has two columns 'x'; expected each name once"),
        (b"x,y\n1,2\n3\n", "line 3: 1 values; expected 2"),
        (b'x,y\n1,"2\n', "line 2: unexpected end of data; expected CSV"),
        (b'x,y\n1,"' + b"2" * 200_000 + b'"\n', "field larger than field limit"),
        (b"x,y\n1,\xe9\n", "expected UTF-8"),
        (b"a,b\n1,2\n", "no column is in both: the reference has 'x', 'y', the current data 'a', 'b'"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    compare: Compare, tmp_path: Path, content: bytes, message: str
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("x,y\n1,2\n")
    bad.write_bytes(content)
    with pytest.raises(SystemExit, match="cannot compare: ") as refused:
        compare(good, bad)
    assert message in str(refused.value)
    assert not (tmp_path / "metrics.json").exists()


def test_folders_without_files_unequal_parts_and_misspelt_options_are_refused(compare: Compare, tmp_path: Path) -> None:
    good, folder = tmp_path / "good.csv", tmp_path / "parts"
    good.write_text("x,y\n1,2\n")
    folder.mkdir()
    with pytest.raises(SystemExit, match=r"has no file \*\.csv in it"):
        compare(good, folder)
    with pytest.raises(SystemExit, match="does not exist"):
        compare(good, tmp_path / "nowhere")
    (folder / "a.csv").write_text("x,y\n1,2\n")
    (folder / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(SystemExit, match="parts of one data set, and only one has the column 'y'"):
        compare(good, folder)
    with pytest.raises(SystemExit, match="no side has a column 'lable'"):
        compare(good, good, "--leave-out=lable")


def test_of_too_many_rows_some_are_drawn_the_same_ones_each_time(compare: Compare) -> None:
    before = [{"x": value, "y": "a"} for value in range(20_000)]
    metrics = compare(before, before, "--max-values=10000")
    assert (metrics["rows_reference"], metrics["drifted_columns"], metrics["max_psi"]) == (20_000, 0, 0)
    assert "Of 20000 rows of the reference, " in compare.text
    assert compare(before, before, "--max-values=10000") == metrics


def test_thousands_of_columns_with_long_names_fit_into_a_metrics_file(compare: Compare, tmp_path: Path) -> None:
    names = [f"{'ö' * 200}{number}" for number in range(3000)]
    for side, value in (("a", 1), ("b", 2)):
        (tmp_path / f"{side}.csv").write_text(
            ",".join(names) + "\n" + (",".join([str(value)] * len(names)) + "\n") * 30
        )
    metrics = compare(tmp_path / "a.csv", tmp_path / "b.csv")
    assert metrics["drifted_columns"] == 3000
    assert len(metrics["drift"]["rows"]) == 1000 and "2000 more" in metrics["drift"]["title"]


def test_it_is_a_program_that_prints_what_drifted(tmp_path: Path) -> None:
    need("numpy")
    before = write(tmp_path / "before.csv", [{"x": value, "y": 1} for value in range(100)])
    after = write(tmp_path / "after.csv", [{"x": value + 50, "y": 1} for value in range(100)])
    words = [sys.executable, str(PROGRAM), f"--reference={before}", f"--metrics={tmp_path / 'metrics.json'}"]
    done = subprocess.run([*words, f"--current={after}"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 of 2 columns drifted.\nx: PSI ")
    done = subprocess.run([*words, "--current=/nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


# What holds whatever the data

CELLS = st.one_of(
    st.integers(-3, 3).map(str),
    st.floats().map(repr),
    st.sampled_from(["", "a", "b", "1_000", " 1", "NA", "x\ny", '"']),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
MIXED = st.lists(CELLS, min_size=1, max_size=60)
NUMBERS = st.lists(st.one_of(st.integers(-5, 5), st.floats(allow_nan=False)), min_size=1, max_size=60)
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@QUIET
@given(MIXED, st.integers(1, 5))
def test_the_same_data_never_drifts_however_often_it_is_there(compare: Compare, cells: list[str], times: int) -> None:
    found = compare.column(cells, cells * times)
    assert (found["drifted"], found["ks"] or 0) == (False, 0)
    assert times > 1 or found["psi"] == 0


@QUIET
@given(MIXED, MIXED, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_and_psi_is_not_negative(
    compare: Compare, before: list[str], after: list[str], random: Any
) -> None:
    found = compare.column(before, after)
    assert found["psi"] >= 0
    assert 0 <= (found["ks"] or 0) <= 1 and 0 <= (found["p_value"] or 0) <= 1
    random.shuffle(before)
    random.shuffle(after)
    assert compare.column(before, after) == found


@QUIET
@given(NUMBERS, NUMBERS)
@example([0.0], [-0.0])
def test_ks_is_symmetric_and_what_one_counts_by_hand(drift: Any, before: list[float], after: list[float]) -> None:
    numpy = need("numpy")
    one, two = numpy.sort(numpy.array(before, float)), numpy.sort(numpy.array(after, float))
    statistic, p_value = drift.ks_of(one, two)
    assert drift.ks_of(two, one) == (statistic, p_value)
    by_hand = max(
        abs(sum(x <= at for x in before) / len(before) - sum(x <= at for x in after) / len(after))
        for at in [*before, *after]
    )
    assert statistic == pytest.approx(by_hand, abs=1e-12)


@QUIET
@given(NUMBERS, st.integers(2, 12))
def test_no_bin_holds_more_than_twice_its_share_but_for_a_value_alone(
    drift: Any, numbers: list[float], bins: int
) -> None:
    numpy = need("numpy")
    ordered = numpy.sort(numpy.array(numbers, float))
    edges = drift.edges_of(ordered, bins)
    assert (numpy.diff(edges) > 0).all()
    placed = numpy.searchsorted(edges, ordered)
    for place in set(placed.tolist()):
        inside = ordered[placed == place]
        assert len(inside) <= 2 * math.ceil(len(ordered) / bins) or len(set(inside.tolist())) == 1
