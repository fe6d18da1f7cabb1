# SPDX-License-Identifier: Apache-2.0
"""An output that is marked as an asset tells Airflow what was committed, and an import finds it again by that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

SPEC = """
apiVersion: mlops/v1
name: sample
defaults: {runtime: process}
steps:
  - name: fit
    kind: train
    command: [sh, -c, 'printf weights > "$MLOPS_OUTPUT_MODEL"; echo "{\\"auc\\": 0.9}" > "$MLOPS_OUTPUT_METRICS"']
    outputs: {model: {type: model, file: model.bin, asset: true}, metrics: metrics}
  - {name: get, kind: import, type: model, asset: "mlops://sample/fit/model", needs: [fit]}
  - name: use
    kind: predict
    inputs: {model: get.model}
    command: [cat, "{{ inputs.model.path }}"]
"""

DAG_FILE = """
from airflow_mlops import pipeline_dag

dag = pipeline_dag("sample.yaml")
"""

LISTENING = (
    DAG_FILE
    + """
from airflow.sdk import Asset, task

with dag:
    @task(inlets=[Asset("mlops://sample/fit/model")])
    def look(inlet_events=None):
        return [dict(event.extra) for event in inlet_events[Asset("mlops://sample/fit/model")]]

    dag.get_task("fit") >> look()
"""
)

FORGING = """
from airflow.sdk import DAG, Asset, task
from airflow_mlops.operators import ImportOperator

ASSET = Asset("mlops://forged/one/model")

with DAG("forged") as dag:
    @task(outlets=[ASSET])
    def forge(outlet_events=None):
        outlet_events[ASSET].extra.update({extra!r})

    forge() >> ImportOperator(task_id="get", asset="mlops://forged/one/model", type="model", infra_retries=0)
"""


def test_an_event_says_what_was_committed_and_an_import_brings_it_in(run_dag: RunDag) -> None:
    done = run_dag(LISTENING, beside={"sample.yaml": SPEC})
    assert done.state == "success", done.log[-3000:]
    made = done.xcoms["fit"]
    (extra,) = done.xcoms["look"]
    assert extra == {
        "output": "model",
        "type": "model",
        "uri": made["artifacts"]["model"]["uri"],
        "digest": made["artifacts"]["model"]["digest"],
        "size": len("weights"),
        "metrics": {"metrics": {"auc": 0.9}},
        "manifest": made["manifest"],
        "sha256": made["sha256"],
    }
    assert done.xcoms["get"]["artifacts"]["model"] == made["artifacts"]["model"]
    assert "weights" in done.log
    assert Path(extra["uri"].removeprefix("file://")).read_text() == "weights"


def test_an_import_of_an_asset_that_nobody_updated_says_so(run_dag: RunDag) -> None:
    text = SPEC.replace("asset: true", "asset: false")
    done = run_dag(DAG_FILE, beside={"sample.yaml": text})
    assert done.tasks["get"] == "failed"
    assert "asset 'mlops://sample/fit/model' has not been updated yet" in done.log


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({}, "says no manifest"),
        ({"manifest": 1, "sha256": 2, "output": 3}, "says no manifest"),
        ({"manifest": "file:///etc/passwd", "sha256": "0" * 64, "output": "model"}, "does not hold"),
        ({"manifest": "file:///tmp/../etc/passwd", "sha256": "0" * 64, "output": "model"}, "does not hold"),
    ],
)
def test_an_event_that_somebody_made_up_is_refused(run_dag: RunDag, extra: dict[str, object], message: str) -> None:
    done = run_dag(FORGING.format(extra=extra))
    assert done.tasks["get"] == "failed"
    assert message in done.log
    assert "root:" not in done.log


def test_an_import_of_another_type_than_the_asset_has_is_refused(run_dag: RunDag) -> None:
    text = SPEC.replace("kind: import, type: model", "kind: import, type: dataset")
    text = text.replace("kind: predict", "kind: container").replace("get.model", "get.dataset")
    done = run_dag(DAG_FILE, beside={"sample.yaml": text})
    assert done.tasks["get"] == "failed"
    assert "is a model; expected a dataset" in done.log


def test_each_instance_of_a_mapped_step_makes_one_event(run_dag: RunDag) -> None:
    done = run_dag(
        """
        from airflow.sdk import DAG, Asset, task
        from airflow_mlops import ProcessTrainOperator

        ASSET = Asset("mlops://mapped/fit/model")

        with DAG("mapped") as dag:
            fit = ProcessTrainOperator.partial(
                task_id="fit",
                command=["sh", "-c", 'printf "$N" > "$MLOPS_OUTPUT_MODEL"'],
                outputs={"model": {"type": "model", "asset": True}},
                outlets=[ASSET],
            ).expand(env=[{"N": "1"}, {"N": "22"}])

            @task(inlets=[ASSET])
            def look(inlet_events=None):
                return sorted(event.extra["size"] for event in inlet_events[ASSET])

            fit >> look()
        """
    )
    assert done.state == "success", done.log[-3000:]
    assert done.xcoms["look"] == [1, 2]
