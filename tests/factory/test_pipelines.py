# SPDX-License-Identifier: Apache-2.0
"""A spec becomes a DAG, always the same one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.factory.pipelines import build_dag, pipeline_dag
from airflow_mlops.spec import SpecError, load_pipeline

pytestmark = pytest.mark.airflow

SPEC = """
apiVersion: mlops/v1
name: sample
description: A sample.
schedule: "@weekly"
start_date: 2026-01-01
tags: [b, a]
owner: ml
params:
  share: {type: number, default: 0.25, minimum: 0.05, maximum: 0.5, description: Share held out}
  mode: {type: string, enum: [fast, good], default: fast}
environments:
  dev: {defaults: {runtime: process}}
defaults: {runtime: docker, image: "mlops-busybox:1", retries: 1}
steps:
  - name: split
    kind: preprocess
    description: Splits it.
    command: [sh, -c, "echo {{ params.share }} {{ var.value.secret }}"]
    outputs: {train: dataset, rows: integer}
  - name: models
    steps:
      - {name: one, kind: train, command: ["true"], inputs: {train: split.train}, outputs: {model: model}}
      - {name: two, kind: train, command: ["true"], inputs: {train: split.train}, outputs: {model: model}}
  - {name: after, kind: container, command: ["true"], needs: [models]}
"""
GOOD = SPEC.replace(" {{ var.value.secret }}", "")

SERIALIZE = """
import json, sys
from airflow_mlops.factory import pipeline_dag
try:
    from airflow.serialization.serialized_objects import DagSerialization as S
    text = S.serialize_dag(pipeline_dag(sys.argv[1]))
except ImportError:
    from airflow.serialization.serialized_objects import SerializedDAG as S
    text = S.serialize_dag(pipeline_dag(sys.argv[1]))
print(json.dumps(text, default=str, sort_keys=True))
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "sample.yaml"
    path.write_text(GOOD)
    return path


def test_inputs_and_needs_order_the_tasks(spec: Path) -> None:
    dag = pipeline_dag(spec)
    upstream = {task_id: sorted(dag.get_task(task_id).upstream_task_ids) for task_id in dag.task_ids}
    assert upstream == {
        "split": [],
        "models.one": ["split"],
        "models.two": ["split"],
        "after": ["models.one", "models.two"],
    }


def test_params_keep_their_bounds_and_refuse_what_is_outside(spec: Path) -> None:
    params = pipeline_dag(spec).params
    assert params.get_param("share").schema["maximum"] == 0.5
    assert params.get_param("mode").schema["enum"] == ["fast", "good"]
    with pytest.raises(Exception, match="maximum"):
        params.get_param("share").resolve(0.9)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("description: Days, minimum: 1, maximum: 9", "Days (1 to 9)"),
        ("minimum: 1, exclusiveMaximum: 9", "at least 1, less than 9"),
        ("description: Days, maximum: 9", "Days (at most 9)"),
        ("description: Days", "Days"),
    ],
)
def test_the_form_says_the_range_of_a_number_which_it_enforces_without_a_word(
    tmp_path: Path, fields: str, text: str
) -> None:
    file = tmp_path / "p.yaml"
    step = "{name: a, kind: container, runtime: process, command: [echo, '{{ params.n }}']}"
    file.write_text(
        f"apiVersion: mlops/v1\nname: p\nparams: {{n: {{type: integer, default: 5, {fields}}}}}\nsteps: [{step}]\n"
    )
    assert pipeline_dag(file).params.get_param("n").description == text


def test_a_changed_spec_is_another_dag_whatever_the_change(spec: Path) -> None:
    before = pipeline_dag(spec).doc_md
    assert before is not None and before.startswith("A sample.\n\n---\n`sample.yaml`, SHA-256 `")
    spec.write_text(GOOD.replace("echo", "printf"))
    assert pipeline_dag(spec).doc_md != before


def test_a_long_description_is_cut_to_its_first_paragraph_where_there_is_room_for_a_line(spec: Path) -> None:
    spec.write_text(GOOD.replace("description: A sample.", 'description: "A\\n sample.\\n\\n- **more**\\n"'))
    dag = pipeline_dag(spec)
    assert dag.description == "A sample."
    text = "## A **good** `sample`, see [the wiki](https://wiki.acme.example/x)."
    (spec.parent / "other.yaml").write_text(GOOD.replace("description: A sample.", f"description: '{text}'"))
    assert pipeline_dag(spec.parent / "other.yaml").description == "A good sample, see the wiki."
    assert dag.doc_md is not None and dag.doc_md.startswith("A\n sample.\n\n- **more**\n\n---\n`sample.yaml`")


def test_a_dag_carries_the_specs_docs_owner_tags_and_schedule(spec: Path) -> None:
    dag = pipeline_dag(spec)
    assert dag.description == "A sample."
    assert dag.get_task("split").doc_md == "Splits it."
    assert dag.get_task("split").owner == "ml"
    assert sorted(dag.tags) == ["a", "b"]
    assert dag.get_task("split").operator_name == "DockerPreprocessOperator"
    assert dag.get_task("models.one").operator_name == "DockerTrainOperator"


def test_an_environment_changes_the_runtime(spec: Path) -> None:
    assert pipeline_dag(spec, environment="dev").get_task("split").operator_name == "ProcessPreprocessOperator"


def test_specs_strings_are_in_no_template_field(spec: Path) -> None:
    task = pipeline_dag(spec).get_task("split")
    values = [str(getattr(task, name)) for name in task.template_fields]
    assert not any("{{" in value for value in values)


def test_a_spec_that_asks_for_variables_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(SPEC)
    with pytest.raises(SpecError, match=r"bad\.yaml:19:\d+: .*var"):
        pipeline_dag(path)


@pytest.mark.slow
def test_the_same_spec_gives_the_same_bytes_under_any_hash_seed(spec: Path) -> None:
    texts = {
        subprocess.check_output(
            [sys.executable, "-c", SERIALIZE, str(spec)], env={**os.environ, "PYTHONHASHSEED": seed}, text=True
        ).splitlines()[-1]
        for seed in ("0", "1", "4242")
    }
    assert len(texts) == 1


def test_a_dag_of_processes_loads_no_docker_client(spec: Path) -> None:
    code = (
        "import sys; from airflow_mlops import pipeline_dag; "
        f"pipeline_dag({str(spec)!r}, runtime='process'); print([m for m in ('docker', 'kubernetes') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "[]"


def test_the_retries_of_a_task_are_a_ceiling_over_both_budgets(spec: Path) -> None:
    task = build_dag(load_pipeline(spec)).get_task("split")
    assert (task.step_retries, task.infra_retries) == (1, 3)
    assert task.retries == 1 + 3 + 20


def test_a_virtual_environment_is_looked_for_beside_the_spec(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    step = "{name: a, kind: container, runtime: process, process: {venv: envs/a}, command: [python, -c, pass]}"
    file.write_text(f"apiVersion: mlops/v1\nname: p\nsteps: [{step}]\n")
    assert pipeline_dag(file).get_task("a").venv == str(tmp_path / "envs" / "a")
