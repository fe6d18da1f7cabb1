# SPDX-License-Identifier: Apache-2.0
"""A parameter is of its type, or refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from airflow_mlops.artifacts import check_parameter, returned_parameter
from airflow_mlops.artifacts.parameters import MAX_PARAMETER, parse_parameter


@pytest.mark.parametrize(
    ("type_name", "data", "value"),
    [
        ("string", b"hello\n", "hello"),
        ("string", b"hello\n\n", "hello\n"),
        ("string", b"hello\r\n", "hello"),
        ("string", b"hello\r", "hello\r"),
        ("string", b"", ""),
        ("string", b"\n", ""),
        ("string", b" 42 ", " 42 "),
        ("string", '"ü"'.encode(), '"ü"'),
        ("integer", b"42\n", 42),
        ("integer", b"-9223372036854775808", -(2**63)),
        ("number", b"1e-3", 0.001),
        ("number", b"3", 3),
        ("boolean", b" true ", True),
        ("list", b'["a", 1, null]', ["a", 1, None]),
        ("object", b'{"a": {"b": []}}', {"a": {"b": []}}),
    ],
)
def test_a_value_of_the_type_is_read(type_name: str, data: bytes, value: Any) -> None:
    read = parse_parameter(type_name, data)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("type_name", "data", "word"),
    [
        ("integer", b"1.0", "expected a JSON integer"),
        ("integer", b"true", "expected a JSON integer"),
        ("integer", b'"1"', "expected a JSON integer"),
        ("integer", b"9223372036854775808", "64 bits"),
        ("integer", b"", "is '', which is no JSON; expected a JSON integer such as 42"),
        ("integer", b"042", "no JSON"),
        ("number", b"NaN", "NaN"),
        ("number", b"-Infinity", "Infinity"),
        ("number", b"1e400", "too large"),
        ("number", b"false", "expected a JSON number"),
        ("boolean", b"1", "expected a JSON boolean"),
        ("boolean", b"True", "is 'True', which is no JSON; expected a JSON boolean such as true"),
        ("list", b"{}", "expected a JSON list"),
        ("list", b"[NaN]", "NaN"),
        ("object", b"[]", "expected a JSON object"),
        ("object", b'{"a": 1, "a": 2}', "twice"),
        ("object", b"null", "expected a JSON object"),
        ("string", b"\xff\xfe", "not UTF-8"),
        ("string", b"a\0b", "NUL"),
        ("string", b"x" * (MAX_PARAMETER + 1), "larger than"),
        ("list", b" " * (MAX_PARAMETER + 1), "larger than"),
    ],
)
def test_a_value_of_another_type_is_refused(type_name: str, data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_parameter(type_name, data)


def test_a_value_up_to_the_limit_is_read() -> None:
    assert parse_parameter("string", b"\x01" * MAX_PARAMETER) == "\x01" * MAX_PARAMETER


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"at": datetime.date(2026, 1, 1)}, [{1, 2}], "\ud800"])
def test_what_an_operator_returned_must_be_json(value: Any) -> None:
    type_name = {float: "number", list: "list", dict: "object", str: "string"}[type(value)]
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        check_parameter(type_name, value)


def test_what_an_operator_returned_is_what_json_gives_back() -> None:
    assert check_parameter("list", [(1, 2)]) == [[1, 2]]


def test_a_huge_result_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        check_parameter("list", [0] * 1_000_000)


@pytest.mark.parametrize(
    ("type_name", "value", "expected"),
    [("integer", "7\n", 7), ("object", '{"a": [1]}', {"a": [1]}), ("string", "7\n", "7\n"), ("list", [1, 2], [1, 2])],
)
def test_text_that_an_operator_returned_is_read_as_a_files_text(
    type_name: str, value: object, expected: object
) -> None:
    assert returned_parameter(type_name, value) == expected


@pytest.mark.parametrize(
    ("type_name", "value"), [("integer", "seven"), ("integer", "7.5"), ("object", "[]"), ("number", "NaN")]
)
def test_text_of_another_type_is_refused(type_name: str, value: object) -> None:
    with pytest.raises(ValueError, match="."):
        returned_parameter(type_name, value)
