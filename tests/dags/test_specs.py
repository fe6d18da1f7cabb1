# SPDX-License-Identifier: Apache-2.0
"""The examples' specs are good ones, and say what the guides say of them."""

from __future__ import annotations

import ast
import re
from datetime import timedelta

import pytest

from airflow_mlops.spec import Pipeline, load_pipeline
from airflow_mlops.spec.models import PROGRAM_KINDS
from tests.dags.by_hand import EXAMPLES

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/pipeline.yaml"))


def load(name: str, environment: str | None = None, runtime: str | None = None) -> Pipeline:
    return load_pipeline(EXAMPLES / name / "pipeline.yaml", environment=environment, runtime=runtime)


def test_there_are_five_examples() -> None:
    assert NAMES == ["breast-cancer", "drift-retrain", "drift-watch", "quickstart", "word-count"]


@pytest.mark.parametrize("name", NAMES)
def test_spec_is_valid_and_named_like_its_folder(name: str) -> None:
    assert load(name).spec.name == name


@pytest.mark.parametrize("name", NAMES)
def test_steps_run_on_docker_unless_told_otherwise(name: str) -> None:
    pipeline = load(name)
    programs = pipeline.programs("docker")
    assert len(programs) == len([step for step in pipeline.steps() if step.spec.kind in PROGRAM_KINDS]) > 0
    assert len(load(name, runtime="process").programs("process")) == len(programs)
    assert all(step.spec.image for step in programs)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quickstart"])
def test_dev_environment_runs_processes(name: str) -> None:
    pipeline = load(name, environment="dev")
    assert pipeline.programs("process") and not pipeline.programs("docker")


@pytest.mark.parametrize("name", NAMES)
def test_dag_file_is_two_lines_and_found_by_airflow(name: str) -> None:
    text = (EXAMPLES / name / "pipeline_dag.py").read_text(encoding="utf-8")
    assert [type(statement).__name__ for statement in ast.parse(text).body] == ["ImportFrom", "Assign"]
    # Airflow's safe mode passes over files that do not hold both words.
    assert "airflow" in text.lower()
    assert "dag" in text.lower()


@pytest.mark.parametrize("name", NAMES)
def test_python_step_code_is_hidden_from_the_dag_processor(name: str) -> None:
    folder = EXAMPLES / name
    if list(folder.glob("src/*.py")):
        assert "src/" in (folder / ".airflowignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_step_code_uses_no_library_of_ours(name: str) -> None:
    for path in (EXAMPLES / name / "src").iterdir():
        assert not re.search(r"airflow", path.read_text(encoding="utf-8"), re.IGNORECASE), path


def test_word_count_has_no_python() -> None:
    assert {step.spec.command[0] for step in load("word-count").steps()} == {"sh", "awk"}
    assert not list((EXAMPLES / "word-count/src").glob("*.py"))


def test_candidates_are_trained_in_parallel_within_limits() -> None:
    pipeline = load("breast-cancer")
    for name in ("logistic", "forest"):
        step = pipeline.step(f"{name}/fit")
        assert {item.step for item in step.inputs.values()} == {("split",)}
        assert (step.spec.resources.cpu, step.spec.resources.memory) == (1.0, 1 << 30)
        assert step.spec.timeout == timedelta(minutes=5)


def test_a_parameter_output_is_used_by_a_later_step() -> None:
    predict = load("breast-cancer").step("predict")
    assert predict.inputs["rows"].type == "integer"
    assert "--expect-rows={{ inputs.rows }}" in predict.spec.command


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quickstart"])
def test_params_have_bounds_and_steps_descriptions(name: str) -> None:
    pipeline = load(name)
    for param in pipeline.params.values():
        assert param.schema["description"]
        if param.schema["type"] != "boolean":
            assert {"minimum", "exclusiveMinimum"} & set(param.schema)
            assert "maximum" in param.schema
    assert all(step.spec.description for step in pipeline.steps())
    assert all(step.spec.timeout for step in pipeline.steps() if step.spec.kind in PROGRAM_KINDS)


def test_what_the_watch_announces_is_what_the_retraining_waits_for_and_imports() -> None:
    watch, retrain = load("drift-watch"), load("drift-retrain")
    (asset,) = (output.asset for step in watch.steps() for output in step.spec.outputs.values() if output.asset)
    assert watch.step("announce").spec.needs == ["drifted"] and watch.step("drifted").spec.on_fail == "skip"
    assert retrain.spec.schedule.assets.any == [asset] == [retrain.step("drifted").spec.asset]
    assert retrain.spec.max_active_runs == 1


def test_the_champion_that_the_watch_compares_with_is_the_one_that_the_retraining_registers() -> None:
    register = load("drift-retrain").step("register").spec
    champion = f"models:{register.model}@{register.alias}"
    for name, step in (("drift-watch", "compare"), ("drift-retrain", "age"), ("drift-retrain", "check")):
        assert load(name).step(step).spec.inputs["champion"].from_ == champion
