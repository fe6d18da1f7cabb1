# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.params import read_params, with_defaults
from airflow_mlops.spec import Pipeline, load_pipeline

SPEC = """\
apiVersion: mlops/v1
name: p
defaults: {runtime: process}
params:
  rate: {type: number, default: 0.1, minimum: 0, maximum: 1}
  depth: 3
  name: hello
  fast: false
  sizes: {type: array, default: [1], items: {type: integer}}
  options: {type: object, default: {}}
  limit: {type: [integer, "null"], default: null}
  either: {type: [integer, string], default: 1}
  code: {enum: ["1", "2"], default: "1"}
  day: {type: string}
steps:
  - {name: one, kind: container, command: [sh, -c, "exit 0"]}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    file = tmp_path / "p.yaml"
    file.write_text(SPEC)
    return load_pipeline(file)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("rate=0.5", 0.5),
        ("rate=.5", 0.5),
        ("rate=1e-4", 0.0001),
        ("depth=7", 7),
        ("depth=1e0", 1),
        ("depth=5.0", 5),
        ("either=1.5", "1.5"),
        ("either=12345678901234567890", "12345678901234567890"),
        ("name=7", "7"),
        ("name=true", "true"),
        ("name=", ""),
        ("name=a=b", "a=b"),
        ("fast=true", True),
        ("sizes=[1, 2]", [1, 2]),
        ('options={"a": [null]}', {"a": [None]}),
        ("limit=null", None),
        ("limit=4", 4),
        ("either=4", 4),
        ("either=four", "four"),
        ("either=[1]", "[1]"),
        ("code=2", "2"),
        ("day=2026-01-31", "2026-01-31"),
    ],
)
def test_a_value_is_read_by_the_type_of_its_parameter(pipeline: Pipeline, word: str, value: Any) -> None:
    found = read_params(pipeline, [word], need_all=False)
    assert found == {word.partition("=")[0]: value}
    assert type(next(iter(found.values()))) is type(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("rate=fast", "the value is not a number such as 0.25"),
        ("rate=NaN", "the value is not a number such as 0.25"),
        ("rate=inf", "the value is not a number such as 0.25"),
        ("rate=2", "expected at most 1"),
        ("depth=2.5", "the value is a number; expected integer"),
        ("depth=", "the value is not an integer such as 3"),
        ("fast=yes", "the value is not a boolean: true or false"),
        ("sizes=1,2", "the value is not a JSON list such as '[1, 2]'"),
        ('sizes=["a"]', "is refused at [0]: 'a' is not of type 'integer'"),
        ("options=[]", "the value is a list; expected object"),
        ("rate=1_0", "the value is not a number"),
        ("rate=\u0663", "the value is not a number"),
        ('options={"a": 1, "a": 2}', "the value is not a JSON object"),
        ('options={"a": "\\ud800"}', "no text; expected UTF-8"),
        ("name=a\udcffb", "no text; expected UTF-8"),
        ("options={" + '"a": {' * 100 + "}" * 101, "nested deeper than 64 levels"),
        ("code=3", "expected one of '1', '2'"),
        ("dept=3", "did you mean 'depth'?"),
        ("depth", "expected NAME=VALUE"),
    ],
)
def test_a_value_that_its_parameter_does_not_take_is_refused(pipeline: Pipeline, word: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_params(pipeline, [word], need_all=False)
    assert message in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(pipeline: Pipeline) -> None:
    with pytest.raises(CommandError) as caught:
        read_params(pipeline, ["rate=2", "dept=3", "fast=no"])
    assert len(str(caught.value).splitlines()) == 3


def test_a_parameter_without_a_default_must_be_given(pipeline: Pipeline) -> None:
    with pytest.raises(CommandError, match="'day' has no default; give it with -p day=VALUE"):
        read_params(pipeline, [])


def test_given_values_come_over_defaults_in_the_order_of_the_spec(pipeline: Pipeline) -> None:
    values = with_defaults(pipeline, {"day": "today", "depth": 9})
    assert list(values) == list(pipeline.params)
    assert (values["depth"], values["rate"], values["day"]) == (9, 0.1, "today")
