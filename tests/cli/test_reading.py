# SPDX-License-Identifier: Apache-2.0
"""``airflow_mlops.read`` gives a notebook what a step has made, whatever kind of store it lies in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops import read
from airflow_mlops.artifacts import NotFound, Place, ReferenceRefused, Store
from airflow_mlops.artifacts.attempts import attempts_of

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

SPEC = """
apiVersion: mlops/v1
name: notes
defaults: {runtime: process}
steps:
  - name: models
    steps:
      - name: fit
        kind: train
        command: [sh, -c, 'printf weights > "$MLOPS_OUTPUT_MODEL"; echo 7 > "$MLOPS_OUTPUT_ROWS";
          echo "{\\"auc\\": 0.9}" > "$MLOPS_OUTPUT_METRICS"']
        outputs: {model: {type: model, file: model.bin}, metrics: metrics, rows: integer}
"""
DAG_FILE = """
from airflow_mlops import pipeline_dag

dag = pipeline_dag("notes.yaml")
"""


def check(options: dict[str, Any], run: str) -> Path:
    assert read(run, "models/fit", "rows", **options) == 7
    assert read(run, "models.fit", "metrics", **options) == {"auc": 0.9}
    path: Path = read(run, "models/fit", "model", **options)
    assert path.read_text() == "weights" and path.name == "model.bin"
    with pytest.raises(NotFound, match="has no output 'modle'; it made metrics, model, rows"):
        read(run, "models/fit", "modle", **options)
    with pytest.raises(NotFound, match=r"step 'models.fti' of run .* has committed nothing .*there: models.fit"):
        read(run, "models/fti", "model", **options)
    return path


@pytest.mark.airflow
@pytest.mark.slow
def test_a_run_of_a_deployment_is_read_by_its_store(run_dag: RunDag, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_dag(DAG_FILE, beside={"notes.yaml": SPEC})
    assert done.state == "success", done.log[-2000:]
    url = os.environ["AIRFLOW__MLOPS__STORE"]
    path = check({"pipeline": "notes", "store": url}, done.run_id)
    check({"pipeline": "notes"}, done.run_id)  # the store of the Airflow that is configured here
    with pytest.raises(NotFound, match="pipeline 'notes' has no run 'nope' .*there: "):
        read("nope", "models/fit", "model", pipeline="notes", store=url)
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_text("changed")
    with pytest.raises(ReferenceRefused, match="it was changed since"):
        read(done.run_id, "models/fit", "model", pipeline="notes", store=url)


@pytest.mark.airflow
@pytest.mark.s3
@pytest.mark.slow
def test_a_run_in_an_object_store_is_read_through_a_cache(
    run_dag: RunDag, s3_store_url: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    url, storage_options = s3_store_url
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(tmp_path / "mlops"))
    done = run_dag(
        DAG_FILE,
        beside={"notes.yaml": SPEC},
        env={
            "AIRFLOW__MLOPS__STORE": url,
            "AIRFLOW__MLOPS__STORAGE_OPTIONS": json.dumps(storage_options),
            "AIRFLOW__MLOPS__INSTANCE": "tests",
        },
    )
    assert done.state == "success", done.log[-2000:]
    options = {"pipeline": "notes", "store": url, "storage_options": storage_options, "instance": "tests"}
    path = check(options, done.run_id)
    assert path.is_relative_to(tmp_path / "mlops" / "cache")
    store = Store.open(url, storage_options=storage_options)
    (attempt,) = attempts_of(store, place := Place("tests", "notes", done.run_id, "models.fit"))
    store.delete_tree(place.outputs_key(attempt) + "/model")
    assert read(done.run_id, "models/fit", "model", **options) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["model.bin"]
    assert not path.stat().st_mode & 0o222
    path.unlink()
    path.write_text("somebody else's")
    with pytest.raises(NotFound):  # what is not what was committed is fetched again, and is gone from the store
        read(done.run_id, "models/fit", "model", **options)


def test_without_runs_it_is_said_what_else_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(tmp_path / "mlops"))
    with pytest.raises(NotFound, match=r"no runs; start one with .*name its pipeline="):
        read("last", "fit", "model")


def test_an_empty_store_is_no_deployments(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds nothing yet"):
        read("r", "fit", "model", pipeline="p", store=tmp_path.as_uri())


@pytest.mark.airflow
@pytest.mark.slow
def test_a_mapped_step_is_read_by_its_index(run_dag: RunDag) -> None:
    done = run_dag(
        """
        from airflow.sdk import DAG
        from airflow_mlops import ProcessContainerOperator

        with DAG("mapped-notes") as dag:
            ProcessContainerOperator.partial(
                task_id="fit", command=["sh", "-c", 'echo "$N" > "$MLOPS_OUTPUT_N"'], outputs={"n": "integer"}
            ).expand(env=[{"N": "7"}, {"N": "8"}])
        """
    )
    assert done.state == "success", done.log[-2000:]
    assert [read(done.run_id, "fit", "n", pipeline="mapped-notes", map_index=index) for index in (0, 1)] == [7, 8]
    with pytest.raises(NotFound, match="is mapped; say which instance by map_index=, of 0, 1"):
        read(done.run_id, "fit", "n", pipeline="mapped-notes")
