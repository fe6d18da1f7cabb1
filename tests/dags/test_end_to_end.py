# SPDX-License-Identifier: Apache-2.0
"""The examples run to their end: by ``airflow-mlops run`` on both runtimes, and as DAG files of an Airflow."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.dags.by_hand import EXAMPLES, need_sklearn
from tests.parts.s3 import new_bucket

if TYPE_CHECKING:
    from tests.parts.namespace import Namespace
    from tests.parts.s3 import S3Server

ROOT = EXAMPLES.parent


@dataclass
class Ran:
    """The JSON document of a run."""

    document: dict[str, Any]

    def states(self) -> dict[str, str]:
        """State by step."""
        return {name: step["state"] for name, step in self.document["steps"].items()}

    def metrics(self, step: str) -> dict[str, Any]:
        """What the step's output ``metrics`` holds."""
        return dict(self.document["steps"][step]["metrics"]["metrics"])

    def file(self, step: str, output: str) -> Path:
        """An artifact in the local store."""
        return Path(unquote(urlsplit(self.document["steps"][step]["artifacts"][output]["uri"]).path))


def environment(home: Path) -> dict[str, str]:
    """The environment of a user whose home is ``home``, without the settings of the tests' own Airflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(home), "AIRFLOW_MLOPS_HOME": str(home / "mlops")}


def run(home: Path, name: str, *options: str, **settings: str) -> Ran:
    """
    ``airflow-mlops run`` an example.

    :param settings: further variables of its environment
    :raises AssertionError: with everything it printed, if it did not succeed
    """
    return run_file(home, EXAMPLES / name / "pipeline.yaml", *options, **settings)


def run_file(home: Path, spec: Path, *options: str, **settings: str) -> Ran:
    """``airflow-mlops run`` a spec, as :func:`run` does it."""
    command = [sys.executable, "-m", "airflow_mlops", "run", str(spec), "--json", *options]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=environment(home) | settings, cwd=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return Ran(json.loads(done.stdout))


def check_breast_cancer(ran: Ran) -> None:
    assert set(ran.states().values()) == {"success"}
    assert ran.document["state"] == "success"
    for step in ("logistic/check", "forest/check", "choose"):
        assert ran.metrics(step)["accuracy"] > 0.9
        assert ran.metrics(step)["auc"] > 0.97
    parameters = ran.document["steps"]["choose"]["parameters"]
    best = max(("logistic", "forest"), key=lambda name: ran.metrics(f"{name}/check")["auc"])
    assert parameters["winner"] == best
    assert [one["name"] for one in parameters["compared"]] == ["logistic", "forest"]
    steps = ran.document["steps"]
    assert steps["choose"]["artifacts"]["model"]["digest"] == steps[f"{best}/fit"]["artifacts"]["model"]["digest"]
    with ran.file("predict", "predictions").open(encoding="utf-8", newline="") as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == steps["split"]["parameters"]["rows"] == 60
    registered = steps["register"]["parameters"]
    assert {row["model"] for row in predictions} == {f"version {registered['version']}"}
    assert steps["register"]["artifacts"]["model"]["digest"] == steps["choose"]["artifacts"]["model"]["digest"]


def check_word_count(ran: Ran) -> None:
    assert ran.states() == dict.fromkeys(("words", "count", "measure", "top"), "success")
    assert (ran.metrics("measure")["words"], ran.metrics("measure")["most"]) == (142, 19)
    assert ran.file("top", "report").read_text(encoding="utf-8").splitlines()[2] == "| 19 | the |"


@pytest.mark.airflow
@pytest.mark.slow
def test_breast_cancer_runs_as_processes(tmp_path: Path) -> None:
    need_sklearn()
    check_breast_cancer(run(tmp_path, "breast-cancer", "-e", "dev"))


@pytest.mark.airflow
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("python_image")
def test_breast_cancer_runs_on_docker(tmp_path: Path) -> None:
    check_breast_cancer(run(tmp_path, "breast-cancer"))


@dataclass
class RanInPods(Ran):
    """The JSON document of a run whose artifacts are in an S3 server's folder."""

    folder: Path

    def file(self, step: str, output: str) -> Path:
        uri = urlsplit(self.document["steps"][step]["artifacts"][output]["uri"])
        return self.folder / uri.netloc / unquote(uri.path).lstrip("/")


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.s3
def test_breast_cancer_runs_on_kubernetes(
    namespace: Namespace, cluster_s3: S3Server, python_image: str, tmp_path: Path
) -> None:
    namespace.cluster.load(python_image)
    url, settings = on_cluster(namespace, cluster_s3)
    ran = run(tmp_path, "breast-cancer", "-e", "cluster", "--runtime", "kubernetes", "--store", url, **settings)
    check_breast_cancer(RanInPods(ran.document, cluster_s3.folder))
    assert namespace.left() == []


def on_cluster(namespace: Namespace, s3: S3Server) -> tuple[str, dict[str, str]]:
    """A store that pods reach, and what a user of the cluster has in their environment."""
    url, storage = new_bucket(s3)
    extra = {"kube_config_path": str(namespace.kubeconfig), "namespace": namespace.name}
    return url, {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": extra}),
        "AIRFLOW__MLOPS__STORAGE_OPTIONS": json.dumps(storage),
        "AIRFLOW__MLOPS__STAGER_IMAGE": "mlops-stager:1",
    }


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.s3
def test_steps_of_one_pipeline_run_as_process_container_and_pod_on_one_store(
    namespace: Namespace, cluster_s3: S3Server, tmp_path: Path
) -> None:
    url, settings = on_cluster(namespace, cluster_s3)
    ran = run_file(tmp_path, ROOT / "tests" / "spec" / "data" / "mixed.yaml", "--store", url, **settings)
    assert set(ran.states().values()) == {"success"}
    assert ran.metrics("measure") == {"files": 2, "lines": 9}
    said = RanInPods(ran.document, cluster_s3.folder).file("report", "text").read_text(encoding="utf-8")
    assert json.loads(said) == {"files": 2, "lines": 9}
    assert namespace.left() == []


@pytest.mark.airflow
def test_word_count_runs_as_processes(tmp_path: Path) -> None:
    check_word_count(run(tmp_path, "word-count", "-e", "dev"))


@pytest.mark.airflow
@pytest.mark.docker
@pytest.mark.usefixtures("busybox_image")
def test_word_count_runs_on_docker(tmp_path: Path) -> None:
    check_word_count(run(tmp_path, "word-count"))


@pytest.mark.airflow
def test_parameters_of_the_command_line_reach_the_steps(tmp_path: Path) -> None:
    ran = run(tmp_path, "word-count", "-e", "dev", "-p", "top=3", "-p", "min_length=1")
    assert len(ran.file("top", "report").read_text(encoding="utf-8").splitlines()) == 5
    assert ran.metrics("measure")["words"] > 142


@pytest.mark.airflow
@pytest.mark.slow
def test_quickstart_runs_as_processes(tmp_path: Path) -> None:
    need_sklearn()
    ran = run(tmp_path, "quickstart", "--runtime", "process")
    assert ran.states() == {"fit": "success", "check": "success"}
    assert ran.metrics("check")["accuracy"] > 0.9


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.parametrize(("shift", "columns", "state"), [(0, 0, "skipped"), (1, 9, "success")])
def test_the_watch_announces_drift_and_nothing_else(tmp_path: Path, shift: int, columns: int, state: str) -> None:
    need_sklearn()
    ran = run(tmp_path, "drift-watch", "-e", "dev", "-p", f"shift={shift}")
    assert ran.states() == {"data": "success", "compare": "success", "drifted": state, "announce": state}
    assert ran.metrics("compare")["drifted_columns"] == columns


@pytest.mark.airflow
@pytest.mark.slow
def test_word_count_runs_by_airflow_dags_test_on_its_dag_file(airflow_home: Path, tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    shutil.copytree(EXAMPLES / "word-count", dags / "word-count")
    settings = {
        "PYTHONPATH": str(ROOT),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__MLOPS__ENVIRONMENT": "dev",
        "AIRFLOW__MLOPS__STORE": (tmp_path / "store").as_uri(),
    }
    file = str(dags / "word-count" / "pipeline_dag.py")
    done = subprocess.run(  # noqa: S603 - Airflow's own command
        [sys.executable, "-m", "airflow", "dags", "test", "word-count", "--dagfile-path", file],
        env={**os.environ, **settings},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    reports = [path.read_text(encoding="utf-8") for path in (tmp_path / "store").rglob("outputs/report/top.md")]
    assert [report.splitlines()[2] for report in reports] == ["| 19 | the |"], done.stdout[-8000:]
