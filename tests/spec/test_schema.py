# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from airflow_mlops.spec.documents import compose
from airflow_mlops.spec.parts import Backoff
from airflow_mlops.spec.schema import SCHEMA_FILE, schema_text, spec_schema
from airflow_mlops.spec.values import Plain
from tests.spec.support import DATA, load

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "apiVersion: mlops/v1\nname: p\nsteps:\n  - {name: a, kind: container, image: i}\n"


def data_of(text: str) -> Any:
    return Plain("f").convert(compose("f", text))


def test_committed_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run python -m airflow_mlops.spec.schema"


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(spec_schema())


@pytest.mark.parametrize("name", ["breast-cancer", "everything"])
def test_examples_are_valid(name: str) -> None:
    document = data_of((DATA / f"{name}.yaml").read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(spec_schema()).iter_errors(document)] == []


@pytest.mark.parametrize(
    "change",
    [
        ("v1", "v2"),
        ("name: p", "name: P p"),
        ("steps:", "step:"),
        ("kind: container", "kind: contaner"),
        ("image: i", "imag: i"),
        ("image: i", "command: python a.py"),
        ("image: i", "outputs: {a: dataste}"),
        ("image: i", "inputs: {a: {form: b.c}}"),
        ("image: i", "secrets: {token: {variable: x}}"),
        ("image: i", "retries: many"),
        ("steps:", "params: {a: {minimum: x}}\nsteps:"),
        ("steps:", "schedule: {assets: {some: [a]}}\nsteps:"),
    ],
)
def test_broken_specs_are_not_valid(change: tuple[str, str]) -> None:
    validator = Draft202012Validator(spec_schema())
    assert validator.is_valid(data_of(GOOD))
    assert not validator.is_valid(data_of(GOOD.replace(*change)))


def test_every_field_is_described() -> None:
    missing: list[str] = []

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                if "description" not in field:
                    missing.append(f"{path}/{name}")
            for key, value in node.items():
                walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for item in node:
                walk(item, path)

    walk(spec_schema(), "")
    assert missing == []


def test_default_of_the_schema_is_what_a_spec_may_write(tmp_path: Path) -> None:
    fields = spec_schema()["$defs"]["Backoff"]["properties"]
    backoff = ", ".join(f"{name}: {field['default']}" for name, field in fields.items())
    step = f"{{name: a, kind: container, image: i, backoff: {{{backoff}}}}}"
    assert load(tmp_path, f"apiVersion: mlops/v1\nname: p\nsteps: [{step}]\n").step("a").spec.backoff == Backoff()
