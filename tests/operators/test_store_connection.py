# SPDX-License-Identifier: Apache-2.0
"""A store that is opened with the credentials of an Airflow connection: a real S3 server, and the provider's own file system."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts import ArtifactError
from airflow_mlops.operators.settings import Settings, load_settings
from tests.parts.images import ROOT
from tests.parts.requirement import unavailable
from tests.parts.s3 import KEY, SECRET, S3Server

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.slow]

DAG = """
    from airflow.sdk import DAG
    from airflow_mlops.operators import ProcessContainerOperator
    once = {"infra_retries": 0}
    with DAG("remote", schedule=None, default_args=once) as dag:
        write = "env; cat $MLOPS_STEP_JSON; echo a > {{ outputs.train.path }}"
        make = ProcessContainerOperator(
            task_id="make", command=["sh", "-c", write], outputs={"train": {"type": "dataset", "file": "train.csv"}}
        )
        read = ["sh", "-c", "grep -q a {{ inputs.train.path }}"]
        ProcessContainerOperator(task_id="use", command=read, inputs={"train": make.artifact("train")})
"""


class Deployment:
    """An Airflow whose store is in a bucket that it knows how to open by a connection alone."""

    def __init__(self, run_dag: RunDag, home: Path, folder: Path, url: str, server: S3Server) -> None:
        self.folder, self.url, self.server = folder, url, server
        self.database = folder / "own.db"
        shutil.copyfile(home / "airflow.db", self.database)
        self._run_dag = run_dag
        self.environment = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__MLOPS__STORE": url,
            "AIRFLOW__MLOPS__STORE_CONN_ID": "bucket",
            "AIRFLOW__MLOPS__INSTANCE": "tests",
            "AIRFLOW__MLOPS__WORK_DIR": str(folder / "work"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def connection(self, **changes: Any) -> str:
        fields = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": {"endpoint_url": self.server.url}}
        return json.dumps({**fields, **changes})

    def run(self, environment: Mapping[str, str]) -> Any:
        return self._run_dag(DAG, env=self.environment | dict(environment))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on a host of the deployment, as an operator would type it."""
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, cwd=self.folder
        )


@pytest.fixture
def deployment(
    run_dag: RunDag,
    airflow_home: Path,
    tmp_path: Path,
    s3_store_url: tuple[str, dict[str, Any]],
    s3_server: S3Server,
) -> Deployment:
    if importlib.util.find_spec("airflow.providers.amazon") is None:
        unavailable("s3", "the amazon provider is not installed; run: pip install apache-airflow-providers-amazon")
    return Deployment(run_dag, airflow_home, tmp_path, s3_store_url[0], s3_server)


def test_a_connection_of_the_environment_opens_the_store_and_is_written_down_nowhere(deployment: Deployment) -> None:
    result = deployment.run({"AIRFLOW_CONN_BUCKET": deployment.connection()})
    assert result.state == "success", result.log[-6000:]
    assert result.xcoms["make"]["artifacts"]["train"]["uri"].startswith(f"{deployment.url}/tests/remote/")
    bucket = deployment.url.split("/")[2]
    stored = [path for path in (deployment.server.folder / bucket).rglob("*") if path.is_file()]
    assert any(path.name == "step.json" for path in stored)
    texts = [result.log, json.dumps(result.xcoms), *(path.read_text(errors="replace") for path in stored)]
    assert not any(SECRET in text for text in texts)
    assert SECRET.encode() not in deployment.database.read_bytes()


NOTEBOOK = """
import asyncio
from airflow_mlops import read
async def cell():  # a notebook runs its cells in a loop
    return read(RUN, "make", "train", pipeline="remote").read_text()
print(asyncio.run(cell()), end="")
"""


def test_a_connection_of_the_database_opens_it_for_tasks_commands_and_notebooks(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = deployment.command("-m", "airflow", "connections", "add", "bucket", "--conn-json", deployment.connection())
    assert added.returncode == 0, added.stderr[-3000:]
    result = deployment.run({})
    assert result.state == "success", result.log[-6000:]
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(deployment.folder / "user"))
    said = deployment.command("-c", NOTEBOOK.replace("RUN", repr(result.run_id)))
    assert said.returncode == 0, said.stderr[-3000:]
    assert said.stdout.splitlines()[-1] == "a"  # the provider logs there, too
    cleaned = deployment.command(
        "-c",
        "import sys; from airflow_mlops.cli.main import main; sys.exit(main(sys.argv[1:]))",
        "clean",
        "--deployment",
    )
    assert cleaned.returncode == 0, cleaned.stderr[-3000:]
    assert f"instance tests, store {deployment.url}" in cleaned.stderr
    assert SECRET not in said.stdout + said.stderr + cleaned.stdout + cleaned.stderr + result.log


def test_a_wrong_secret_is_refused_without_being_shown(deployment: Deployment) -> None:
    wrong = deployment.connection(password="wrong-and-still-secret")
    result = deployment.run({"AIRFLOW_CONN_BUCKET": wrong})
    assert result.tasks["make"] == "failed"
    assert "store_conn_id" in result.log
    assert "wrong-and-still-secret" not in result.log


def test_a_connection_that_is_missing_is_not_taken_for_an_anonymous_one(deployment: Deployment) -> None:
    result = deployment.run({})
    assert result.tasks["make"] == "failed"
    assert "[mlops] store_conn_id: Airflow has no connection 'bucket'" in result.log
    assert "a retry could not cure it" in result.log


def test_a_store_whose_provider_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", "generic://")
    store = Settings("abfs://container/prefix", store_conn_id="bucket").open_store()
    with pytest.raises(
        ArtifactError,
        match="no installed Airflow provider opens abfs://; install apache-airflow-providers-microsoft-azure",
    ):
        store.exists("x")


def test_opening_looks_nothing_up_and_other_kinds_of_stores_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLOPS__STORE", "s3://bucket/prefix")
    monkeypatch.setenv("AIRFLOW__MLOPS__STORE_CONN_ID", "nobody")
    settings = load_settings()
    assert settings.open_store().url == "s3://bucket/prefix"
    assert settings.file_system("s3://other/data") is not None
    assert settings.file_system("file:///data") is None
    assert settings.file_system("gs://other/data") is None
    with pytest.raises(ArtifactError, match="Airflow has no connection 'nobody'"):
        settings.open_store().exists("x")
