# SPDX-License-Identifier: Apache-2.0
"""An example of ``dags/`` in a running Airflow whose steps run as pods and wait in its triggerer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.parts.images import ROOT
from tests.parts.namespace import Namespace, temporary_namespace
from tests.parts.s3 import S3Server, new_bucket
from tests.parts.standalone import Standalone, running_airflow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.kubernetes import Cluster

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.s3]

STEPS = (
    "split",
    "logistic.fit",
    "logistic.check",
    "forest.fit",
    "forest.check",
    "choose",
    "good-enough",
    "better",
    "approve",
    "register",
    "predict",
    "run_outcome",
)
SLEEPER = """
apiVersion: mlops/v1
name: sleeper
defaults: {runtime: kubernetes, image: "mlops-busybox:1"}
environments: {cluster: {}}
steps:
  - {name: sleep, kind: container, command: [sh, -c, "echo to sleep; exec sleep 600"], stop_grace: 1s}
"""


@pytest.fixture(scope="module")
def place(kubernetes_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with temporary_namespace(kubernetes_cluster, tmp_path_factory.mktemp("worker")) as made:
        yield made


@pytest.fixture(scope="module")
def airflow(place: Namespace, python_image: str, cluster_s3: S3Server, migrated_database: Path) -> Iterator[Standalone]:
    """One with the documented role, and with nothing in its configuration that says more of the cluster than a connection does."""
    place.cluster.load(python_image)
    url, storage = new_bucket(cluster_s3)
    connection = {
        "conn_type": "kubernetes",
        "extra": {"kube_config_path": str(place.kubeconfig), "namespace": place.name},
    }
    settings = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "AIRFLOW__MLOPS__STORE": url,
        "AIRFLOW__MLOPS__STORAGE_OPTIONS": json.dumps(storage),
        "AIRFLOW__MLOPS__INSTANCE": "standalone",
        "AIRFLOW__MLOPS__STAGER_IMAGE": "mlops-stager:1",
        "AIRFLOW__MLOPS__ENVIRONMENT": "cluster",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
    }
    with running_airflow(migrated_database, settings) as found:
        yield found


def test_an_example_runs_in_pods_and_its_output_is_in_the_logs_of_its_tasks(
    airflow: Standalone, place: Namespace
) -> None:
    folder = ROOT / "dags" / "breast-cancer"
    code = {str(file.relative_to(folder)): file.read_text() for file in folder.glob("src/*")}
    airflow.add("breast-cancer", (folder / "pipeline.yaml").read_text(), code)
    run = airflow.trigger("breast-cancer", trees=20)
    assert airflow.wait("breast-cancer", run, seconds=400) == "success"
    assert airflow.tasks("breast-cancer", run) == dict.fromkeys(STEPS, "success")
    metrics = airflow.xcom("breast-cancer", run, "choose")["metrics"]["metrics"]
    assert metrics["auc"] > 0.97
    said = [str(line["event"]) for line in airflow.task_log("breast-cancer", run, "split")]
    assert any(line.startswith("The triggerer waits for pod mlops-") for line in said)
    assert len([line for line in said if "rows to train with" in line]) == 1
    assert place.left() == []


def test_a_deferred_step_that_is_marked_as_failed_has_no_pod_half_a_minute_later(
    airflow: Standalone, place: Namespace
) -> None:
    airflow.add("sleeper", SLEEPER)
    run = airflow.trigger("sleeper")

    def sleeps() -> bool:
        return [pod["status"]["phase"] for pod in place.pods("mlops.airflow/dag=sleeper")] == ["Running"]

    def shown() -> bool:
        return "to sleep" in [line["event"] for line in airflow.task_log("sleeper", run, "sleep")]

    airflow.until("a running pod", sleeps)
    airflow.until("a deferred task", lambda: airflow.tasks("sleeper", run) == {"sleep": "deferred"})
    # It runs on, and its output is there already.
    airflow.until("its output", shown)
    airflow.request("PATCH", f"dags/sleeper/dagRuns/{run}/taskInstances/sleep", json={"new_state": "failed"})
    airflow.until("the end of the pod", lambda: place.left() == [], seconds=30)
    assert airflow.wait("sleeper", run) == "failed"
