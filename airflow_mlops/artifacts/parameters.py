# SPDX-License-Identifier: Apache-2.0
"""Parameter outputs: small values that travel by XCom, checked against their type."""

from __future__ import annotations

from typing import Any

from airflow_mlops.artifacts.strict_json import NoJson, canonical, parse

MAX_PARAMETER = 64 * 1024
"""Bytes of a parameter output, as text or JSON."""

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}


_EXAMPLES = {"integer": "42", "number": "0.5", "boolean": "true", "list": "[1, 2]", "object": '{"depth": 3}'}


def parse_parameter(type_name: str, data: bytes) -> Any:
    """
    Read the file of a parameter output: UTF-8 text with one final newline dropped for a ``string``, JSON for everything
    else.

    :raises ValueError: if it is not of the type, or too large
    """
    if len(data) > MAX_PARAMETER:
        raise ValueError(f"is larger than {MAX_PARAMETER} bytes; hand bigger things on as an artifact")
    if type_name != "string":
        try:
            return check_parameter(type_name, parse(data, limit=MAX_PARAMETER))
        except NoJson:
            raise ValueError(
                f"is {shown(data.decode('utf-8'))}, which is no JSON; expected a JSON {type_name} such as {_EXAMPLES[type_name]}"
            ) from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start})") from None
    return check_parameter(type_name, text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n"))


def returned_parameter(type_name: str, value: Any) -> Any:
    """
    Take what an operator returned as a parameter. Text, such as what a shell printed, is read as the text of a file would be.

    :return: the value as JSON gives it back
    :raises ValueError: if it is of another type, no JSON, or too large
    """
    if isinstance(value, str) and type_name != "string":
        return parse_parameter(type_name, value.encode("utf-8", "surrogatepass"))
    return check_parameter(type_name, value)


def check_parameter(type_name: str, value: Any) -> Any:
    """
    Check a value against the type of a parameter. ``1.0`` is a number and no integer, ``true`` is neither.

    :return: the value as JSON gives it back
    :raises ValueError: if it is of another type, no JSON, or too large
    """
    allowed = _PYTHON_TYPES[type_name]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"is {shown(value)}; expected a JSON {type_name}")
    try:
        # An operator's result may hold NaN, dates or tuples. Escapes make JSON up to six times as long as its text.
        again = parse(canonical(value), limit=6 * MAX_PARAMETER + 64)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"is no JSON value: {error}") from None
    if isinstance(again, str) and "\0" in again:
        raise ValueError("holds a NUL character, which no environment variable can hold")
    return again


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
