# SPDX-License-Identifier: Apache-2.0
"""What a spec can ask for, seen from inside the program: one pipeline, on each runtime and each way for files into a container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.operators.test_process import path_of

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG_FILE = "from airflow_mlops import pipeline_dag\ndag = pipeline_dag('pipeline.yaml')\n"

SPEC = """
apiVersion: mlops/v1
name: features
params: {word: {type: string, default: "{{ not a template }}"}}
defaults: {runtime: RUNTIME, image: "mlops-busybox:1", backoff: {initial: 1s, maximum: 1s, factor: 1}}
steps:
  - {name: there, kind: import, uri: "DATA/in.csv", type: dataset}
  - name: resume
    kind: preprocess
    retries: 1
    checkpoint: true
    inputs: {data: there.dataset}
    command:
      - sh
      - -ec
      - |
        if [ ! -e $MLOPS_CHECKPOINT/deep/seen ]; then mkdir $MLOPS_CHECKPOINT/deep; echo 41 > $MLOPS_CHECKPOINT/deep/seen; exit 9; fi
        cat {{ inputs.data.path }} > $MLOPS_OUTPUT_COPY
        echo $(($(cat $MLOPS_CHECKPOINT/deep/seen) + {{ run.try }})) > $MLOPS_OUTPUT_SEEN
    outputs: {copy: {type: dataset, file: copy.csv}, seen: integer}
  - name: by-uri
    kind: container
    params: [word]
    inputs: {copy: {from: resume.copy, stage: none}, seen: resume.seen}
    command: [sh, -ec, 'echo {{ inputs.copy.uri }} > $MLOPS_OUTPUT_URI; env > $MLOPS_OUTPUT_SEEN_ENV; cat $MLOPS_STEP_JSON > $MLOPS_OUTPUT_STEP']
    outputs: {uri: string, seen_env: string, step: object}
  - name: skips
    kind: operator
    operator:
      class: airflow.providers.standard.operators.bash.BashOperator
      arguments: {bash_command: exit 99}
    outputs: {n: integer}
  - name: without
    kind: container
    inputs: {n: {from: skips.n, optional: true}, copy: resume.copy}
    command: [sh, -ec, 'test -z "$MLOPS_PARAM_N"; test -s $MLOPS_INPUT_COPY']
  - name: extract
    kind: operator
    inputs: {seen: resume.seen}
    operator:
      class: airflow.providers.standard.operators.bash.BashOperator
      arguments: {bash_command: "mkdir -p DIR/out; echo {{ inputs.seen }} > DIR/out/part-{{ run.id }}; echo 7"}
    outputs: {rows: integer, table: {type: dataset, uri: "DATA/out", digest: content}}
  - name: waits
    kind: operator
    operator:
      class: waiting.Waiting
      arguments: {seconds: 1}
  - name: use
    kind: container
    inputs: {table: extract.table, rows: extract.rows}
    command: [sh, -ec, 'test {{ inputs.rows }} = 7; cat {{ inputs.table.path }}/part-* > $MLOPS_OUTPUT_N']
    outputs: {n: integer}
"""

WAYS = [
    "process",
    pytest.param("bind", marks=pytest.mark.docker),
    pytest.param("volume", marks=pytest.mark.docker),
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of data that the deployment opens to steps."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "in.csv").write_text("a,b\n")
    return folder


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    if request.param != "process":
        request.getfixturevalue("docker_daemon")
        request.getfixturevalue("busybox_image")
    return str(request.param)


@pytest.fixture
def result(run_dag: RunDag, way: str, outside: Path) -> DagResult:
    """The pipeline's run."""
    runtime = "process" if way == "process" else "docker"
    spec = SPEC.replace("RUNTIME", runtime).replace("DATA", outside.as_uri()).replace("DIR", str(outside))
    settings = {
        "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(outside),
        "AIRFLOW__MLOPS__ALLOWED_OPERATORS": "airflow.providers.standard.* waiting.Waiting",
        "AIRFLOW__MLOPS__DOCKER_TRANSFER": "auto" if way == "process" else way,
    }
    return run_dag(DAG_FILE, env=settings, beside={"pipeline.yaml": spec, "waiting.py": WAITING})


WAITING = """
from datetime import timedelta
from airflow.sdk import BaseOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger


class Waiting(BaseOperator):
    def __init__(self, *, seconds, **kwargs):
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context):
        self.log.info("begins to wait")
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=self.seconds)), method_name="go_on")

    def go_on(self, context, event=None):
        self.log.info("goes on after a %s", type(event).__name__)
"""


def test_every_feature_of_a_spec_works_on_every_runtime(result: DagResult, outside: Path) -> None:
    steps = ("there", "resume", "by-uri", "without", "extract", "waits", "use")
    expected = dict.fromkeys((*steps, "run_outcome"), "success")  # an operator may skip itself
    assert result.tasks == {**expected, "skips": "skipped"}, result.log
    parameters: dict[str, Any] = {name: xcom["parameters"] for name, xcom in result.xcoms.items()}
    # a checkpoint outlives the attempt that failed, and the second try read it
    assert parameters["resume"] == {"seen": 43}
    # stage: none gives the URI alone
    assert parameters["by-uri"]["uri"].endswith("/outputs/copy/copy.csv")
    assert "MLOPS_INPUT_COPY" not in parameters["by-uri"]["seen_env"]
    # what looks like a template and comes from a parameter is data
    assert "MLOPS_PARAM_WORD={{ not a template }}" in parameters["by-uri"]["seen_env"]
    # the program can read what was resolved for it
    step = parameters["by-uri"]["step"]
    assert step["step"]["inputs"]["copy"]["path"] is None
    assert step["step"]["params"] == {"word": "{{ not a template }}", "seen": 43}
    assert (step["run"]["try"], step["run"]["generation"], step["run"]["incarnation"]) == (1, 1, 0)
    # any operator takes part: its result is a parameter, and what it left at a URI an artifact
    assert parameters["extract"] == {"rows": 7}
    assert result.xcoms["extract"]["artifacts"]["table"]["uri"] == f"{outside.as_uri()}/out"
    assert result.xcoms["extract"]["artifacts"]["table"]["digest"].startswith("sha256-tree:")
    assert parameters["use"] == {"n": 43}
    assert result.xcoms["there"]["artifacts"]["dataset"]["uri"] == f"{outside.as_uri()}/in.csv"
    # an operator that defers itself goes on where it left
    assert "begins to wait" in result.log
    assert "goes on after a DateTime" in result.log
    # what was committed is in the store, read-only, with the try that made it
    copy = path_of(result.xcoms["resume"]["artifacts"]["copy"]["uri"])
    assert copy.read_text() == "a,b\n"
    assert copy.stat().st_mode & 0o222 == 0
    manifest = json.loads(path_of(result.xcoms["resume"]["manifest"]).read_text())
    assert manifest["try"] == 2
