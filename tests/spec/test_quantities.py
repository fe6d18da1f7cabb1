# SPDX-License-Identifier: Apache-2.0
"""Quantities, durations and schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.spec.cron import check_cron
from airflow_mlops.spec.quantities import format_duration, parse_bytes, parse_cpu, parse_duration


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2Gi", 2 << 30),
        ("512Mi", 512 << 20),
        ("1G", 10**9),
        ("1.5Gi", 3 << 29),
        ("1024", 1024),
        (4096, 4096),
        ("3k", 3000),
    ],
)
def test_memory_is_read(text: Any, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2gb", "did you mean '2G'?"),
        ("512mb", "did you mean '512M'?"),
        ("2g", "did you mean '2Gi'?"),
        ("-1Gi", "expected a quantity of memory"),
        ("0", "above zero"),
        (0, "above zero"),
        ("9" * 16, "expected a quantity"),
        ("2048Pi", "below 1024Pi"),
        (True, "expected a quantity"),
        (1.5, "expected a quantity"),
        ("", "expected a quantity"),
        ("2Gi\n", "expected a quantity"),
    ],
)
def test_what_is_no_memory_is_refused(text: Any, said: str) -> None:
    with pytest.raises(ValueError, match="expected|unit") as caught:
        parse_bytes(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "cores"), [(2, 2.0), (0.5, 0.5), ("500m", 0.5), ("2", 2.0), ("0.25", 0.25)])
def test_cpu_is_read(text: Any, cores: float) -> None:
    assert parse_cpu(text) == cores


@pytest.mark.parametrize("text", [0, -1, "0", "m", "2c", True, None, 10**30, float("nan"), float("inf"), "1e3"])
def test_what_is_no_cpu_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected a number of cores"):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("1d2h3m4s", 93784)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0s", "1w", "30m1h", "-5s", "5", "1.5h", " 5s", "99999d", "5S", "5s ", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


def test_a_duration_without_unit_is_told_its_unit() -> None:
    with pytest.raises(ValueError, match="needs a unit.*did you mean '90s'"):
        parse_duration(90)


@given(seconds=st.integers(1, 3650 * 86400))
def test_durations_survive_being_written(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["@weekly", "@once", "0 6 * * 1", "*/5 0-6,12 1 jan mon-fri", "0 0 l * *", "0 0 * * 5#2", "0 0 1-7/2 * sun"]
)
def test_schedules_are_accepted(text: str) -> None:
    assert check_cron(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@weakly", "did you mean '@weekly'?"),
        ("every day", "five fields"),
        ("60 * * * *", "'60' is no minute; expected 0 to 59"),
        ("0 24 * * *", "is no hour"),
        ("0 0 0 * *", "is no day of month"),
        ("0 0 1 foo *", "is no month"),
        ("0 0 * * mun", "is no day of week"),
        ("*/0 * * * *", "is no minute"),
        ("", "five fields"),
        ("1,,2 * * * *", "is no minute"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, said: str) -> None:
    assert said in str(check_cron(text))
