# SPDX-License-Identifier: Apache-2.0
"""Parameters of a spec: whatever Airflow or a program would stumble over is told when the spec is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.spec.support import load, problem

if TYPE_CHECKING:
    from pathlib import Path

STEPS = "steps: [{name: a, kind: container, image: i}, {name: b, kind: container, image: i}]"


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ("params: {x: {default: 5, maximum: 3}}", "3:23: parameter 'x': default 5 is outside the bounds; expected at most 3 (maximum)"),
        ("params: {x: {default: 5, exclusiveMinimum: 5}}", "expected more than 5 (exclusiveMinimum)"),
        ("params: {x: {default: 5, multipleOf: 2}}", "is no multiple of 2"),
        ("params: {x: {default: a, type: integer}}", "default 'a' is a string; expected integer, which 'type' asks for"),
        ("params: {x: {default: a, enum: [b, c]}}", "default 'a' is not in 'enum'; expected one of 'b', 'c'"),
        ("params: {x: {default: abc, maxLength: 2}}", "has 3 characters; expected at most 2 (maxLength)"),
        ("params: {x: {default: abc, pattern: '^b'}}", "does not match its pattern"),
        ("params: {x: {pattern: '('}}", "'(' is no regular expression"),
        ("params: {x: {default: [1, a], items: {type: integer}}}", "is refused at [1]: 'a' is not of type 'integer'"),
        ("params: {x: {default: [1, 1], uniqueItems: true}}", "repeats an item"),
        ("params: {x: {minimum: 3, maximum: 1}}", "minimum 3 is larger than maximum 1"),
        ("params: {x: null}", "the default is null, which tells no type"),
        ("params: {x: {default: null, type: string}}", "default null is null; expected string"),
        ("params: {x: {type: strin}}", "'params.x.type': 'strin' is no type; expected one of string"),
        ("params: {x: {defalt: 1}}", "3:14: unknown key 'defalt' in 'params.x'; expected one of type, default"),
        ("params: {x-y: 1}", "3:10: 'params.x-y': 'x-y' is no valid name"),
        ("params: {x: 1, X: 2}", "3:16: parameter 'X' and parameter 'x' are both MLOPS_PARAM_X"),
        ("schedule: '@daily'\nparams: {x: {type: string}}", "4:10: parameter 'x' has no default, which a scheduled run needs"),
        ("params: {x: {type: array, items: {pattern: '('}}}", "parameter 'x': 'items' is no JSON Schema: '(' is not a 'regex'"),
        ("params: {x: {type: array, items: {$ref: 'http://127.0.0.1/x'}}}", "'$ref' in 'items' is refused, since it refers to other documents"),
        ("params: {x: {type: array, items: {allOf: [{$ref: '#'}]}}}", "'$ref' in 'items' is refused"),
        ("params: {x: {type: array, items: {multipleOf: 0}}}", "is no JSON Schema: 0 is less than or equal to the minimum of 0"),
        ("params: {x: {type: array, items: {type: integr}}}", "is no JSON Schema: 'integr' is not valid under any"),
        ("params: {x: {type: array, items: {pattern: '(?!a)'}}}", "a regular expression that only Python knows"),
        ("params: {x: {default: [a], items: {anyOf: [{type: integer}, {type: 'null'}]}}}", "is refused at [0]: 'a' is not valid under any"),
        ("params: {x: {default: [{k: 1}], items: {properties: {k: {type: string}}}}}", "is refused at [0]['k']: 1 is not of type 'string'"),
        ("params: {x: {default: 2026-02-31, format: date}}", "'2026-02-31' is not a 'date'; expected format: 'date'"),
        ("params: {x: {default: aa, pattern: '^(?!b)'}}", "without '(?=', '(?!', '(?<=', back-references, "),
        ("params: {x: {default: aa, pattern: '(a)\\1'}}", "a regular expression that only Python knows"),
        ("params: {x: {default: ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'], items: {pattern: '^(a+)+$'}}}", "does not match '^(a+)+$'"),
        ("params: {x: {type: array, items: {unevaluatedProperties: false}}}", "'unevaluatedProperties' in 'items' is refused"),
        ("params: {x: {type: array, items: {anyOf: [" + "{type: string}, " * 400 + "{}]}}}", "'items' has more than 300 parts"),
        ("params: {x: {default: 0.3, multipleOf: 0.1}}", "0.3 is not a multiple of 0.1"),
        ("params: {x: {default: [1, 1.0], uniqueItems: true}}", "has non-unique elements"),
        ("params: {x: {enum: [[1]], default: [true]}}", "[True] is not one of [[1]]"),
        ("params: {x: {default: abc, pattern: '^[[:alpha:]]+$'}}", "is not clear: Possible nested set"),
        ("start_date: 9999-12-31", "expected a year from 1900 to 2199"),
        ("params: {x: {type: integer, minimum: 5, exclusiveMaximum: 5}}", "minimum 5 is the same as exclusiveMaximum 5"),
        ("params: {x: {type: number, exclusiveMinimum: 6, maximum: 5}}", "exclusiveMinimum 6 is larger than maximum 5"),
        ("params: {x: {type: integer, enum: [1, a]}}", "'a' of 'enum' is a string; expected integer, which 'type' asks for"),
        ("params: {x: {enum: [1, 5], maximum: 3}}", "5 of 'enum' is outside the bounds"),
        ("params: {x: {multipleOf: 0, type: number}}", "multipleOf is 0; expected a number above zero"),
        ("params: {x: 9223372036854775808}", "3:13: '9223372036854775808' does not fit into 64 bits; expected a smaller integer, or quotes"),
        ("params: {x: {default: [[-9223372036854775809]]}}", "does not fit into 64 bits"),
        ("params: {x: {type: integer, enum: [0x10000000000000000]}}", "does not fit into 64 bits"),
        ("params: {x: \"a\\0b\"}", "holds a NUL character, which no program can be given"),
        ("params: {x: {default: [{\"k\\0\": 1}]}}", "holds a NUL character"),
        ("params: {x: {type: string, enum: [\"\\0\"]}}", "of 'enum' holds a NUL character"),
    ],
)  # fmt: skip
def test_wrong_parameter_is_told_what_and_where(tmp_path: Path, top: str, said: str) -> None:
    found = problem(tmp_path, f"apiVersion: mlops/v1\nname: p\n{top}\n{STEPS}\n")
    assert found.startswith(said) if said[0].isdigit() and ":" in said[:3] else said in found


def test_an_integer_that_is_written_as_a_number_is_an_integer(tmp_path: Path) -> None:
    text = f"apiVersion: mlops/v1\nname: p\nparams: {{x: {{default: 1e3, type: integer}}}}\n{STEPS}\n"
    assert repr(load(tmp_path, text).params["x"].default) == "1000"


@pytest.mark.parametrize(
    "param",
    [
        "{default: [1, null], items: {type: [integer, 'null']}}",
        "{default: 2026-02-28, format: date}",
        "{default: text, format: multiline}",
        "{type: integer, minimum: 5, maximum: 5}",
        "{type: number, exclusiveMinimum: 0, maximum: 1e-3, default: 1e-3}",
        "{type: [integer, 'null'], enum: [1, null], default: null}",
        "9223372036854775807",
        "-9223372036854775808",
        "{default: '<b>', pattern: '^\\<b\\>$'}",
        "{default: 0.5, multipleOf: 0.25}",
        "{default: ab-1, pattern: '^(?i:AB)-[0-9]{1,3}$'}",
    ],
)
def test_good_parameter_is_what_airflow_takes(tmp_path: Path, param: str) -> None:
    pipeline = load(tmp_path, f"apiVersion: mlops/v1\nname: p\nparams: {{x: {param}}}\n{STEPS}\n")
    definitions = pytest.importorskip("airflow.sdk.definitions.param")
    x = pipeline.params["x"]
    assert definitions.Param(x.default if x.has_default else 5, **x.schema).resolve() == (
        x.default if x.has_default else 5
    )
