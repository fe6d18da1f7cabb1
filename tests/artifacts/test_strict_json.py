# SPDX-License-Identifier: Apache-2.0
"""JSON that is not the same to everybody is refused, in little time and memory."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.artifacts.strict_json import MAX_INTEGER, canonical, parse

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert parse(canonical(value), limit=1 << 20) == value


@given(st.dictionaries(st.text(), st.integers(0, 9)))
def test_the_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("NaN", "NaN"),
        ("[Infinity]", "Infinity"),
        ("-Infinity", "Infinity"),
        ("1e999", "too large"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
        ("9223372036854775808", "64 bits"),
        ("-9223372036854775809", "64 bits"),
        ('"\\ud800"', "surrogate"),
        ('{"\\uDFFF": 1}', "surrogate"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("1 2", "not JSON"),
        ("[" * 100 + "]" * 100, "deeper"),
        ("[" * 100_000, "deeper"),
        ('{"a":' * 70 + "1" + "}" * 70, "deeper"),
    ],
)
def test_malformed_json_is_refused(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse(text.encode(), limit=1 << 20)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        parse(b'"\xff"', limit=100)


def test_a_document_over_the_limit_is_refused() -> None:
    assert parse(b"[1,2]", limit=5) == [1, 2]
    with pytest.raises(ValueError, match="at most 4"):
        parse(b"[1,2]", limit=4)


def test_a_surrogate_pair_is_text() -> None:
    assert parse(b'"\\ud83d\\ude00"', limit=100) == "😀"


def test_an_endless_integer_takes_no_time() -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match="64 bits"):
        parse(b"1" * 1_000_000, limit=1 << 20)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}])
def test_what_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical(value)


def test_the_spelling_is_canonical() -> None:
    assert canonical({"b": [1, 2.5, True, None], "a": "ü"}) == '{"a":"ü","b":[1,2.5,true,null]}\n'.encode()
    assert json.loads(canonical("\n")) == "\n"
