# SPDX-License-Identifier: Apache-2.0
"""Pages of a store that the API server opens with an Airflow connection: a real S3 server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.api_server import ApiServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.s3 import S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG = """
    from datetime import datetime

    from airflow.sdk import DAG

    from airflow_mlops import ProcessContainerOperator

    with DAG("pages", schedule=None, start_date=datetime(2025, 1, 1)) as dag:
        ProcessContainerOperator(
            task_id="make", command=["sh", "-c", 'printf data > "$MLOPS_OUTPUT_ROWS"'], outputs={"rows": "dataset"}
        )
"""


def test_a_page_and_a_file_come_out_of_a_bucket_that_a_connection_opens(
    airflow_home: Path, tmp_path: Path, s3_server: S3Server, s3_store_url: tuple[str, dict[str, Any]]
) -> None:
    url, options = s3_store_url
    connection = {
        "conn_type": "aws",
        "login": options["key"],
        "password": options["secret"],
        "extra": {"endpoint_url": s3_server.url, "region_name": "us-east-1"},
    }
    settings = {
        "AIRFLOW_CONN_LAKE": json.dumps(connection),
        "AIRFLOW__MLOPS__STORE": url,
        "AIRFLOW__MLOPS__STORE_CONN_ID": "lake",
        "AIRFLOW__MLOPS__INSTANCE": "prod",
    }
    server = ApiServer(tmp_path / "home", settings)
    server.start(airflow_home / "airflow.db")
    try:
        run = server.run(DAG)
        assert run.state == "success", run.log
        links = server.get(f"api/v2/dags/pages/dagRuns/{run.run_id}/taskInstances/make/links").json()["extra_links"]
        page = server.get(links["Artifacts"])
        assert page.status_code == 200, page.text
        assert f"{url}/prod/pages/" in page.text
        query = links["Artifacts"].partition("?")[2]
        assert server.get(f"mlops/download?{query}&artifact=rows").content == b"data"
    finally:
        server.stop()
