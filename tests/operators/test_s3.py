# SPDX-License-Identifier: Apache-2.0
"""Steps whose artifacts go through a real S3 server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.slow]

DAG = """
    from airflow.sdk import DAG
    from airflow_mlops.operators import DockerContainerOperator, ProcessContainerOperator
    with DAG("remote", schedule=None) as dag:
        write = "echo a > {{ outputs.train.path }}; mkdir $MLOPS_OUTPUT_MODEL; echo w > $MLOPS_OUTPUT_MODEL/weights"
        make = ProcessContainerOperator(
            task_id="make", command=["sh", "-c", write], outputs={"train": {"type": "dataset", "file": "train.csv"}, "model": "model"}
        )
        inputs = {"train": make.artifact("train"), "model": make.artifact("model")}
        read = ["sh", "-c", "grep -q a {{ inputs.train.path }} && grep -q w {{ inputs.model.path }}/weights"]
        ProcessContainerOperator(task_id="use", command=read, inputs=inputs)
        DockerContainerOperator(task_id="use-in-container", image="mlops-busybox:1", command=read, inputs=inputs)
"""


def test_artifacts_go_through_an_object_store(
    run_dag: RunDag, s3_store_url: tuple[str, dict[str, Any]], docker_daemon: str, busybox_image: str
) -> None:
    url, options = s3_store_url
    store = {
        "AIRFLOW__MLOPS__STORE": url,
        "AIRFLOW__MLOPS__STORAGE_OPTIONS": json.dumps(options),
        "AIRFLOW__MLOPS__INSTANCE": "tests",
    }
    result = run_dag(DAG, env=store)
    assert result.state == "success", result.log
    assert result.xcoms["make"]["artifacts"]["train"]["uri"].startswith(f"{url}/tests/remote/")


def test_a_shared_store_without_an_instance_is_refused_by_name(
    run_dag: RunDag, s3_store_url: tuple[str, dict[str, Any]], docker_daemon: str, busybox_image: str
) -> None:
    url, options = s3_store_url
    store = {"AIRFLOW__MLOPS__STORE": url, "AIRFLOW__MLOPS__STORAGE_OPTIONS": json.dumps(options)}
    result = run_dag(DAG, env=store)
    assert result.tasks["make"] == "failed"
    assert "set [mlops] instance" in result.log
