# SPDX-License-Identifier: Apache-2.0
"""Runs on a real MLflow server: what of them is there, and that none waits for it, or fails by it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts import Store
from airflow_mlops.artifacts.generations import Try
from airflow_mlops.operators import tracking
from airflow_mlops.operators.attempt import Attempt
from airflow_mlops.operators.identity import TaskIdentity
from airflow_mlops.operators.mlflow_connection import MlflowAddress, mlflow_address
from airflow_mlops.operators.mlflow_rest import _keys
from airflow_mlops.operators.settings import Settings
from tests.parts.proxy import proxied

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag
    from tests.parts.mlflow import MlflowServer

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG_FILE = "from airflow_mlops import pipeline_dag\ndag = pipeline_dag('pipeline.yaml')\n"
PROGRAM = """
import json, os, sys
import mlflow
assert os.environ["MLFLOW_RUN_ID"]
with mlflow.start_run():
    mlflow.log_metric("own", 0.5)
    mlflow.log_param("solver", "lbfgs")
with open(os.environ["MLOPS_OUTPUT_METRICS"], "w") as file:
    json.dump({
        "auc": 0.97, "f1 (macro)": 0.9,
        "loss": {"type": "curve", "x": [1, 2, 3], "y": [0.9, 0.5, 0.4]},
        "roc": {"type": "curve", "series": [{"name": "test", "x": [0, 0.1, 1], "y": [0, 0.8, 1]}]},
    }, file)
with open(os.environ["MLOPS_OUTPUT_MODEL"], "w") as file:
    file.write("weights")
"""
SPEC = f"""
apiVersion: mlops/v1
name: NAME
params: {{C: 0.1, seed: 7}}
source: .
defaults: {{runtime: process}}
steps:
  - {{name: fit, kind: train, params: [C], command: ["{sys.executable}", program.py],
     outputs: {{model: {{type: model, file: m.bin}}, metrics: metrics}}}}
  - {{name: good, kind: gate, inputs: {{m: fit.metrics}}, require: ["m.auc > 0.9"]}}
"""
FLAKY = """
apiVersion: mlops/v1
name: NAME
params: {works: false}
defaults: {runtime: process}
steps:
  - {name: fine, kind: container, command: ["true"]}
  - {name: flaky, kind: container, params: [works], retries: 1, backoff: {initial: 1s, factor: 1}, needs: [fine],
     command: [sh, -c, 'test "$MLOPS_PARAM_WORKS" = true']}
"""


@pytest.fixture
def client(mlflow_server: MlflowServer) -> Any:
    """MLflow's own client."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(mlflow_server.url)


def tracked(run_dag: RunDag, name: str, url: str, spec: str = SPEC, **conf: Any) -> DagResult:
    """A run of a pipeline whose deployment has an MLflow server."""
    env = {
        "AIRFLOW__MLOPS__MLFLOW_CONN_ID": "tracker",
        "AIRFLOW_CONN_TRACKER": url.replace("http://", "http://ada:sesame@"),
    }
    beside = {"pipeline.yaml": spec.replace("NAME", name), "program.py": PROGRAM}
    return run_dag(DAG_FILE, conf=conf, env=env, beside=beside)


def runs_of(client: Any, name: str) -> dict[str, Any]:
    """The MLflow runs of a pipeline by their names; that of the pipeline itself as ``""``."""
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id], max_results=100)
    return {run.info.run_name if "mlflow.parentRunId" in run.data.tags else "": run for run in found}


def test_a_run_is_there_with_a_run_for_each_step(run_dag: RunDag, mlflow_server: MlflowServer, client: Any) -> None:
    result = tracked(run_dag, "tracked", mlflow_server.url, C=0.5)
    assert result.state == "success", result.log[-6000:]
    assert "Not tracked" not in result.log and "sesame" not in result.log
    runs = runs_of(client, "tracked")
    assert set(runs) == {"", "fit", "good"}
    whole, fit, good = runs[""], runs["fit"], runs["good"]
    assert (whole.info.run_name, whole.info.status, whole.data.params) == (
        result.run_id,
        "FINISHED",
        {"C": "0.5", "seed": "7"},
    )
    assert {run.data.tags["mlflow.parentRunId"] for run in (fit, good)} == {whole.info.run_id}
    assert (fit.info.status, good.info.status) == ("FINISHED", "FINISHED")
    assert fit.data.params == {"C": "0.5", "solver": "lbfgs"}
    assert {key: fit.data.metrics[key] for key in ("auc", "f1 _macro_", "own")} == {
        "auc": 0.97,
        "f1 _macro_": 0.9,
        "own": 0.5,
    }
    assert whole.data.metrics["fit/auc"] == 0.97
    loss = client.get_metric_history(fit.info.run_id, "loss")
    assert [(point.step, point.value) for point in loss] == [(1, 0.9), (2, 0.5), (3, 0.4)]
    across, up = (client.get_metric_history(fit.info.run_id, f"roc/test.{axis}") for axis in "xy")
    assert [(one.step, one.value, other.value) for one, other in zip(across, up, strict=True)] == [
        (0, 0, 0),
        (1, 0.1, 0.8),
        (2, 1, 1),
    ]
    model = result.xcoms["fit"]["artifacts"]["model"]
    assert (fit.data.tags["mlops.artifact.model"], fit.data.tags["mlops.digest.model"]) == (
        model["uri"],
        model["digest"],
    )
    assert good.data.tags["mlops.output.passed"] == "true"


def test_a_try_after_the_first_goes_on_with_the_run_of_its_step(
    run_dag: RunDag, mlflow_server: MlflowServer, client: Any
) -> None:
    failed = tracked(run_dag, "flaky", mlflow_server.url, FLAKY, works=False)
    assert failed.state == "failed"
    runs = runs_of(client, "flaky")
    assert {name: run.info.status for name, run in runs.items()} == {
        "": "FAILED",
        "fine": "FINISHED",
        "flaky": "FAILED",
    }


@pytest.fixture
def page() -> Iterator[str]:
    """A server that is none of MLflow's, and says yes to everything."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>welcome</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Log:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *values: Any) -> None:
        self.lines.append(text % values)


@contextmanager
def connected(url: str) -> Iterator[None]:
    """A deployment with a connection to a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_TRACKER", url)
        yield


def attempt_of(folder: Path, task: str, dag: str) -> Attempt:
    """An attempt of a step of a run."""
    current = Try(id="2", map_index=-1, try_number=1, max_tries=3, retries=0, clears=1, run_started=0.0)
    identity = TaskIdentity(instance="i", dag_id=dag, run_id="r", task_id=task, current=current, generation=1)
    store = Store.open(f"file://{folder}/store")
    settings = Settings(store.url, work_dir=folder, mlflow_conn_id="tracker")
    return Attempt.plan(identity, store, settings, "c" * 12)


@pytest.fixture
def away(page: str, mlflow_server: MlflowServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server in some state of trouble."""
    if request.param == "none":
        yield "http://127.0.0.1:1"
    elif request.param == "another":
        yield page
    else:
        host, _, port = mlflow_server.url.removeprefix("http://").partition(":")
        with proxied(("127.0.0.1", 0), (host, int(port))) as proxy:
            proxy.rule(".*", "hold request")
            yield f"http://127.0.0.1:{proxy.port}"


@pytest.mark.parametrize("away", ["none", "another", "slow"], indirect=True)
def test_a_server_in_trouble_fails_no_step_and_holds_none_up_for_more_than_a_second(away: str, tmp_path: Path) -> None:
    began = time.monotonic()
    attempt, log = attempt_of(tmp_path, "fit", "in-trouble"), Log()
    held = 0.0
    with connected(away):
        operator: Any = SimpleNamespace(log=log)
        context = {"params": {"C": 1}}
        wait = tracking.begin(operator, context, attempt, {"C": 1})
        attempt.tracked = wait()
        assert attempt.tracked is not None and not attempt.tracked.variables
        tracking.end(operator, context, attempt, "FINISHED")()
        held = time.monotonic() - began
    assert held < 1.1, held
    assert "Not tracked" in log.lines[0]


def test_steps_that_begin_at_once_have_one_run_of_the_pipeline(
    mlflow_server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    together = threading.Barrier(5)
    with connected(mlflow_server.url):

        def step(number: int) -> str:
            attempt = attempt_of(tmp_path, f"step-{number}", "at-once")
            moment = tracking._Tracking(MlflowAddress(mlflow_server.url), {"params": {"C": 1}}, attempt)
            known: list[str] = []
            together.wait(30)
            moment.begin({}, known.append)
            return known[0]

        with ThreadPoolExecutor(5) as pool:
            runs = {*pool.map(step, range(5))}
    assert len(runs) == 5
    found = client.search_runs([client.get_experiment_by_name("at-once").experiment_id])
    parents = {run.info.run_id for run in found if "mlflow.parentRunId" not in run.data.tags}
    assert len(parents) == 1
    assert {run.data.tags.get("mlflow.parentRunId", *parents) for run in found} == parents


def test_a_run_of_the_pipeline_has_failed_while_one_of_its_steps_has(
    mlflow_server: MlflowServer, client: Any, tmp_path: Path
) -> None:
    address, context = MlflowAddress(mlflow_server.url), {"params": {}}

    def end(task: str, state: Any) -> str:
        tracking._Tracking(address, context, attempt_of(tmp_path, task, "in-turns")).end(state, None)
        experiment = client.get_experiment_by_name("in-turns").experiment_id
        (whole,) = [run for run in client.search_runs([experiment]) if "mlflow.parentRunId" not in run.data.tags]
        return str(whole.info.status)

    told = [end("a", "FINISHED"), end("b", "FAILED"), end("a", "FINISHED"), end("b", "FINISHED")]
    assert told == ["FINISHED", "FAILED", "FAILED", "FINISHED"]


@pytest.mark.parametrize(
    ("connection", "uri"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://mlflow.example.com", "https://mlflow.example.com"),
        ("https://mlflow.example.com:8443/prefix", "https://mlflow.example.com:8443/prefix"),
        (
            '{"conn_type": "http", "host": "https://mlflow.example.com/prefix/", "port": 99}',
            "https://mlflow.example.com:99/prefix",
        ),
        ('{"conn_type": "http", "host": "mlflow", "schema": "https"}', "https://mlflow"),
    ],
)
def test_a_connection_is_an_address_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: str, uri: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRACKER", connection)
    assert mlflow_address(attempt_of(tmp_path, "t", "d").settings).uri == uri


def test_names_that_would_be_the_same_there_are_numbered() -> None:
    assert _keys(["a (b)", "a [b]", "a (b)", "c"]) == {"a (b)": "a _b_", "a [b]": "a _b__2", "c": "c"}
