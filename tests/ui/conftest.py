# SPDX-License-Identifier: Apache-2.0
"""One API server for all tests of pages, and runs of real steps for it to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.api_server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.airflow_home import DagResult

DAG = """
    from datetime import datetime

    from airflow.sdk import DAG

    from airflow_mlops import ProcessContainerOperator, ProcessEvaluateOperator, ProcessTrainOperator
    from airflow_mlops.operators.references import ImportOperator

    with DAG("pages", schedule=None, start_date=datetime(2025, 1, 1)) as dag:
        fit = ProcessTrainOperator(
            task_id="fit",
            command=[
                "sh",
                "-c",
                'printf "one,two" > "$MLOPS_OUTPUT_ROWS"; mkdir "$MLOPS_OUTPUT_MODEL"; printf m > "$MLOPS_OUTPUT_MODEL/weights"; '
                "printf '<script>alert(1)</script>' > \\"$MLOPS_OUTPUT_NOTE\\"; "
                "printf '%s' '{\\"auc\\": 0.93, \\"<img src=x>\\": 2}' > \\"$MLOPS_OUTPUT_SCORES\\"",
            ],
            parameters={"depth": 4, "label": "</td><script>alert(2)</script>"},
            outputs={
                "rows": {"type": "dataset", "file": "rows.csv"},
                "model": "model",
                "note": "string",
                "scores": "metrics",
            },
        )
        score = ProcessContainerOperator(
            task_id="score", command=["sh", "-c", 'cat "$MLOPS_INPUT_ROWS" > "$MLOPS_OUTPUT_REPORT"'],
            inputs={"rows": fit.artifact("rows")}, outputs={"report": "report"},
        )
        ProcessContainerOperator.partial(task_id="each", outputs={"n": "integer"}).expand(
            command=[["sh", "-c", f'printf {n} > "$MLOPS_OUTPUT_N"'] for n in (10, 20)]
        )
        ProcessContainerOperator(task_id="fails", command=["sh", "-c", "exit 3"])
        ImportOperator(task_id="bring", uri="%(outside)s", digest="none")
"""


@pytest.fixture(scope="session")
def api_server(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server."""
    server = ApiServer(tmp_path_factory.mktemp("api-server") / "home")
    server.start(airflow_home / "airflow.db")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pages_run(api_server: ApiServer) -> DagResult:
    """A run whose steps ended well, failed, were mapped, and imported."""
    data = api_server.outside / "data.csv"
    data.write_text("from elsewhere")
    return api_server.run(DAG.replace("%(outside)s", data.as_uri()))
