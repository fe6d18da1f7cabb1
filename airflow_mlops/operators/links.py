# SPDX-License-Identifier: Apache-2.0
"""The button on a task instance that leads to what it committed, and the address behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Place

PAGES = "mlops"
"""Where the API server mounts our pages, below its own root."""

PAGE = "artifacts"
DOWNLOAD = "download"


def query_of(place: Place, map_index: int, **more: str) -> str:
    """
    The query by which our pages know one generation of a task instance. All names are in it, and none in the path: a run id may hold
    slashes, and a DAG may be called ``..``.

    :param map_index: of the task instance, -1 for a plain one
    :param more: further names
    """
    names: dict[str, str | int] = {"dag_id": place.pipeline, "run_id": place.run, "task_id": place.step}
    if map_index >= 0:
        names["map_index"] = map_index
    names["generation"] = place.generation
    if place.incarnation:
        names["incarnation"] = place.incarnation
    return urlencode({**names, **more}, quote_via=quote, errors="replace")


class ArtifactsLink(BaseOperatorLink):
    """
    Lead from a task instance to what it committed.

    Airflow's worker asks for the link when a try has ended, and keeps it as an XCom, so that no DAG file is needed to show it. The address
    is relative: Airflow's pages know the path below which they are served.
    """

    name = "Artifacts"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """
        The page of the generation that the try has committed, or that it found committed.

        :param operator: the step
        :param ti_key: the task instance
        :return: empty, which Airflow takes for no link, where the try has no result: it failed, or was deferred
        """
        place = operator.committed
        return f"{PAGES}/{PAGE}?{query_of(place, ti_key.map_index)}" if place is not None else ""
