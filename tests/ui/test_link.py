# SPDX-License-Identifier: Apache-2.0
"""The link on a task instance, as Airflow keeps it and its REST API gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult
    from tests.parts.api_server import ApiServer

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def links(api_server: ApiServer, run: DagResult, task: str, map_index: int = -1) -> dict[str, Any]:
    """What the REST API says of a task instance's links."""
    answer = api_server.get(
        f"api/v2/dags/pages/dagRuns/{run.run_id}/taskInstances/{task}/links", params={"map_index": map_index}
    )
    return dict(answer.raise_for_status().json()["extra_links"])


def test_a_step_links_to_what_its_try_committed(api_server: ApiServer, pages_run: DagResult) -> None:
    url = links(api_server, pages_run, "fit")["Artifacts"]
    assert parse_qs(urlsplit(url).query) == {
        "dag_id": ["pages"],
        "run_id": [pages_run.run_id],
        "task_id": ["fit"],
        "generation": ["1"],
    }
    page = api_server.get(url)
    assert page.status_code == 200, page.text
    assert "rows.csv" in page.text


def test_the_link_is_relative_so_that_it_works_below_a_sub_path(api_server: ApiServer, pages_run: DagResult) -> None:
    parts = urlsplit(links(api_server, pages_run, "fit")["Artifacts"])
    assert (parts.scheme, parts.netloc, parts.path) == ("", "", "mlops/artifacts")


@pytest.mark.parametrize("map_index", [0, 1])
def test_an_instance_of_a_mapped_step_links_to_its_own(
    api_server: ApiServer, pages_run: DagResult, map_index: int
) -> None:
    url = links(api_server, pages_run, "each", map_index)["Artifacts"]
    assert parse_qs(urlsplit(url).query)["map_index"] == [str(map_index)]
    assert f"<code>{(map_index + 1) * 10}</code>" in api_server.get(url).text


def test_a_step_that_imports_has_a_link(api_server: ApiServer, pages_run: DagResult) -> None:
    page = api_server.get(links(api_server, pages_run, "bring")["Artifacts"])
    assert page.status_code == 200
    assert "data.csv" in page.text


def test_a_step_that_failed_has_no_link(api_server: ApiServer, pages_run: DagResult) -> None:
    assert pages_run.tasks["fails"] == "failed"
    assert links(api_server, pages_run, "fails") == {"Artifacts": None}
