# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.spec import load_pipeline, spec_schema
from tests.cli.support import call

if TYPE_CHECKING:
    import pytest


def test_init_writes_a_pipeline_that_validates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "init", tmp_path / "churn").code == 0
    said = call(capsys, "validate", tmp_path / "churn")
    assert said.out == f"PASS {tmp_path}/churn/churn.yaml (churn, 3 steps)\n"


def test_init_prints_the_next_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "init", tmp_path / "my churn")
    assert f"airflow-mlops run '{tmp_path}/my churn/my-churn.yaml'" in said.out


def test_the_editor_hint_leads_to_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "init", tmp_path)
    spec = next(tmp_path.glob("*.yaml"))
    first = spec.read_text().splitlines()[0]
    hint = "# yaml-language-server: $schema="
    assert first.startswith(hint)
    assert json.loads((tmp_path / first.removeprefix(hint)).read_text()) == spec_schema()


def test_the_dag_file_is_two_lines_that_airflow_takes_for_a_dag_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "init", tmp_path, "--name", "churn")
    text = (tmp_path / "churn.py").read_text()
    assert len(text.splitlines()) == 2
    # Airflow reads only files that hold both words.
    assert b"dag" in text.encode().lower() and b"airflow" in text.encode().lower()
    call_ = ast.parse(text).body[1]
    assert "churn.yaml" in ast.dump(call_)


def test_step_code_is_kept_from_airflows_dag_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "init", tmp_path, "--name", "churn")
    assert "src/" in (tmp_path / ".airflowignore").read_text().splitlines()


def test_init_overwrites_nothing_and_then_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "fit.py").write_text("mine")
    said = call(capsys, "init", tmp_path, "--name", "churn")
    assert said.code == 2
    assert said.err.startswith(f"{tmp_path}/src/fit.py: exists already")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["fit.py"]
    assert (tmp_path / "src" / "fit.py").read_text() == "mine"


def test_a_name_that_no_pipeline_may_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "init", tmp_path / "x", "--name", "Churn!")
    assert said.code == 2
    assert "'Churn!' is no name of a pipeline" in said.err
    assert not (tmp_path / "x").exists()


def test_the_containers_environment_of_the_template_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "init", tmp_path, "--name", "churn")
    pipeline = load_pipeline(tmp_path / "churn.yaml", environment="containers")
    assert {step.spec.runtime for step in pipeline.steps()} == {"docker"}
    assert all(step.spec.image for step in pipeline.steps())
