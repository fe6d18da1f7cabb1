# SPDX-License-Identifier: Apache-2.0
"""From a trained model to a version that others read: gates against the champion, registering, and models as inputs, run by run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.artifacts import Store
from airflow_mlops.registry import FileRegistry, MlflowRegistry
from tests.operators.test_process import path_of

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG_FILE = "from airflow_mlops import pipeline_dag\ndag = pipeline_dag('pipeline.yaml')\n"

SPEC = """
apiVersion: mlops/v1
name: scoring
params: {quality: 0.9}
source: .
defaults: {runtime: RUNTIME, image: "mlops-busybox:1"}
steps:
  - {name: data, kind: preprocess, command: [sh, -c, "echo rows > $MLOPS_OUTPUT_ROWS"], outputs: {rows: dataset}}
  - name: fit
    kind: train
    params: [quality]
    inputs: {rows: data.rows}
    command:
      - sh
      - -ec
      - echo "model $MLOPS_PARAM_QUALITY" > $MLOPS_OUTPUT_MODEL; echo "{\\"acc\\":" $MLOPS_PARAM_QUALITY "}" > $MLOPS_OUTPUT_METRICS
    outputs: {model: {type: model, file: model.bin}, metrics: metrics}
  - name: better
    kind: gate
    on_fail: skip
    inputs: {m: fit.metrics, champion: "models:scorer@champion"}
    no_champion: open
    require: ["m.acc > champion.acc"]
  - {name: register, kind: register, needs: [better], model: scorer, alias: champion, description: Scores things.,
     inputs: {model: fit.model, metrics: fit.metrics}}
  - {name: use, kind: predict, inputs: {model: register.model}, command: [sh, -ec, "cat {{ inputs.model.path }} > $MLOPS_OUTPUT_SEEN"],
     outputs: {seen: string}}
  - {name: before, kind: predict, inputs: {model: {from: "models:scorer@previous", optional: true}},
     command: [sh, -ec, 'cat ${MLOPS_INPUT_MODEL:-/dev/null} > $MLOPS_OUTPUT_SEEN'], outputs: {seen: string}}
"""


def seen(result: DagResult) -> dict[str, Any]:
    """State of the run, and what the programs read."""
    parameters = {name: xcom["parameters"] for name, xcom in result.xcoms.items()}
    used = parameters.get("use", {}).get("seen"), parameters["before"]["seen"]
    return {"state": result.state, "gate": result.tasks["better"], "register": result.tasks["register"], "read": used}


def registry_of(store: Path, mlflow: str | None = None) -> FileRegistry | MlflowRegistry:
    """The registry in a store; the one on an MLflow server, if its address is given."""
    instance = (store / "_instances" / "default").read_text().strip()
    opened = Store.open(store.as_uri())
    return FileRegistry(opened, instance) if mlflow is None else MlflowRegistry(opened, instance, mlflow)


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [
        ("process", "files"),
        pytest.param("docker", "files", marks=pytest.mark.docker),
        pytest.param("process", "mlflow", marks=pytest.mark.mlflow),
    ],
)
def test_the_first_model_a_better_and_a_worse_one(
    run_dag: RunDag, tmp_path: Path, runtime: str, kind: str, request: pytest.FixtureRequest
) -> None:
    if runtime == "docker":
        request.getfixturevalue("docker_daemon")
        request.getfixturevalue("busybox_image")
    store = tmp_path / "store"
    (tmp_path / "store").mkdir()
    env = {"AIRFLOW__MLOPS__STORE": store.as_uri()}
    server = request.getfixturevalue("empty_mlflow").url if kind == "mlflow" else None
    if server is not None:
        env |= {"AIRFLOW__MLOPS__MODEL_REGISTRY": "mlflow", "AIRFLOW__MLOPS__MLFLOW_CONN_ID": "tracker"}
        env["AIRFLOW_CONN_TRACKER"] = server.replace("http://", "http://ada:sesame@")
    beside = {"pipeline.yaml": SPEC.replace("RUNTIME", runtime)}
    results = [run_dag(DAG_FILE, conf={"quality": quality}, env=env, beside=beside) for quality in (0.9, 0.95, 0.92)]
    assert [seen(result) for result in results] == [
        {"state": "success", "gate": "success", "register": "success", "read": ("model 0.9", "")},
        {"state": "success", "gate": "success", "register": "success", "read": ("model 0.95", "")},
        {"state": "success", "gate": "skipped", "register": "skipped", "read": (None, "model 0.9")},
    ], results[-1].log[-6000:]
    registry = registry_of(store, server)
    assert registry.aliases("scorer") == {"champion": 2, "previous": 1}
    first, second = registry.versions("scorer")
    assert (first.metrics, second.metrics) == ({"acc": 0.9}, {"acc": 0.95})
    made = results[1].xcoms["fit"]
    assert second.digest == made["artifacts"]["model"]["digest"] and second.description == "Scores things."
    assert path_of(second.uri).read_text() == "model 0.95\n"
    origin = second.origin
    assert origin is not None
    assert (origin.pipeline, origin.run, origin.step) == ("scoring", results[1].run_id, "fit")
    assert (origin.manifest, origin.sha256) == (made["manifest"], made["sha256"])
    assert second.inputs == {"rows": results[1].xcoms["data"]["artifacts"]["rows"]["digest"]}
    assert second.source is not None and second.source.startswith("sha256")
    # an alias that leads nowhere is damage, and no case of "no champion yet"
    record = next(store.glob("*/_models/scorer/versions/2.json"), path_of(second.uri).parent.with_suffix(".json"))
    record.rename(record.with_suffix(".away"))
    broken = run_dag(DAG_FILE, conf={"quality": 0.1}, env=env, beside=beside)
    assert broken.tasks["better"] == "failed", broken.log[-6000:]
    assert "input 'champion' reads models:scorer@champion" in broken.log
    record.with_suffix(".away").rename(record)
    promoted = registry.history("scorer")[-1]
    assert promoted.changed == {"champion": 2, "previous": 1}
    assert promoted.by.startswith(f"run {results[1].run_id} of scoring")
    assert promoted.why == "registered by step 'register'"
    handed = results[1].xcoms["register"]
    assert handed["parameters"] == {"version": 2, "reference": "models:scorer/2", "created": True}
    assert handed["artifacts"]["model"]["metadata"] == {"model": "scorer", "version": 2}


OVERTAKEN = """
apiVersion: mlops/v1
name: racing
defaults: {runtime: process}
steps:
  - &fit
    name: first
    kind: train
    command: [sh, -c, 'echo "$0" > $MLOPS_OUTPUT_MODEL; echo "{\\"acc\\": 0.9}" > $MLOPS_OUTPUT_METRICS', first]
    outputs: {model: model, metrics: metrics}
  - {<<: *fit, name: second, command: [sh, -c, 'echo second > $MLOPS_OUTPUT_MODEL; echo "{\\"acc\\": 0.9}" > $MLOPS_OUTPUT_METRICS']}
  - {<<: *fit, name: third, command: [sh, -c, 'echo third > $MLOPS_OUTPUT_MODEL; echo "{\\"acc\\": 0.9}" > $MLOPS_OUTPUT_METRICS']}
  - {name: begin, kind: register, inputs: {model: first.model}, model: raced, alias: champion}
  - name: gate
    kind: gate
    needs: [begin]
    inputs: {m: second.metrics, champion: "models:raced@champion"}
    no_champion: open
    require: ["m.acc > 0.5"]
  - {name: faster, kind: register, needs: [gate], inputs: {model: third.model}, model: raced, alias: champion}
  - {name: between, kind: gate, needs: [gate], inputs: {m: second.metrics}, require: ["m.acc > 0.1"]}
  - {name: slower, kind: register, needs: [between, faster], inputs: {model: second.model}, model: raced, alias: champion}
"""


def test_a_model_that_was_compared_with_an_earlier_champion_does_not_become_it(run_dag: RunDag, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    result = run_dag(DAG_FILE, env={"AIRFLOW__MLOPS__STORE": store.as_uri()}, beside={"pipeline.yaml": OVERTAKEN})
    assert {name for name, state in result.tasks.items() if state != "success"} == {"slower"}, result.log[-6000:]
    assert (
        "overtaken: step 'slower': the alias 'champion' of raced points to version 2, and was expected to point to version 1"
        in result.log
    )
    assert "clear gate to compare it" in result.log
    registry = registry_of(store)
    assert registry.aliases("raced") == {"champion": 2, "previous": 1}
    assert [version.version for version in registry.versions("raced")] == [1, 2, 3]


BY_HAND = """
from airflow.sdk import DAG
from airflow_mlops.operators import ImportOperator, ProcessPredictOperator, ProcessTrainOperator, RegisterOperator

with DAG("by-hand", schedule=None) as dag:
    fit = ProcessTrainOperator(task_id="fit", command=["sh", "-c", "echo same > $MLOPS_OUTPUT_MODEL"], outputs={"model": "model"})
    first = RegisterOperator(task_id="first", model="same", alias="challenger", inputs={"model": fit.artifact("model")})
    again = RegisterOperator(task_id="again", model="same", alias="champion", inputs={"model": first.artifact("model")})
    third = RegisterOperator(task_id="third", model="same", alias="challenger", inputs={"model": again.artifact("model")})
    there = ImportOperator(task_id="there", uri="DATA", type="model")
    brought = RegisterOperator(task_id="brought", model="brought", inputs={"model": there.artifact("model")})
    brought >> ProcessPredictOperator(task_id="use", command=["sh", "-ec", "cat {{ inputs.m.path }} > $MLOPS_OUTPUT_SEEN"],
                                      inputs={"m": "models:brought/1"}, outputs={"seen": "string"})
    ProcessPredictOperator(task_id="lost", command=["true"], inputs={"m": "models:nobody@champion"}, infra_retries=0)
"""


def test_the_same_model_is_the_same_version_and_models_from_elsewhere_are_brought_in(
    run_dag: RunDag, tmp_path: Path
) -> None:
    store, data = tmp_path / "store", tmp_path / "elsewhere" / "model.onnx"
    store.mkdir()
    data.parent.mkdir()
    data.write_text("from elsewhere")
    env = {"AIRFLOW__MLOPS__STORE": store.as_uri(), "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(data.parent)}
    result = run_dag(BY_HAND.replace("DATA", data.as_uri()), env=env)
    assert {name for name, state in result.tasks.items() if state != "success"} == {"lost"}, result.log[-6000:]
    created = [result.xcoms[name]["parameters"] for name in ("first", "again", "third")]
    assert [(one["version"], one["created"]) for one in created] == [(1, True), (1, False), (1, False)]
    registry = registry_of(store)
    # the champion does not become its own challenger
    assert registry.aliases("same") == {"champion": 1}
    (brought,) = registry.versions("brought")
    assert (brought.origin, brought.file) == (None, "model.onnx")
    assert result.xcoms["use"]["parameters"] == {"seen": "from elsewhere"}
    assert "input 'm' reads models:nobody@champion: there is no model 'nobody'" in result.log


def test_a_gate_of_a_hand_written_dag_says_what_holds_before_the_first_model() -> None:
    from airflow_mlops.operators import BadStep, GateOperator, RegisterOperator

    with pytest.raises(BadStep, match="no_champion='open' or no_champion='close'"):
        GateOperator(task_id="g", inputs={"c": "models:churn@champion"}, require=["c.auc > 1"])
    GateOperator(task_id="g", inputs={"c": "models:churn@champion"}, require=["c.auc > 1"], no_champion="close")
    with pytest.raises(BadStep, match="step 'r': 'a/b' is no name of a model"):
        RegisterOperator(task_id="r", model="a/b")
    assert json.dumps(RegisterOperator(task_id="r", model="a").outputs["model"].type) == '"model"'
