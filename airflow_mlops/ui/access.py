# SPDX-License-Identifier: Apache-2.0
"""
Who may see a page. All that we take from inside Airflow's API server is here: it is not public, and a test asks each version for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag

if TYPE_CHECKING:
    from fastapi import Request

__all__ = ["GetUserDep", "check_access"]

_NEEDED = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
"""A page shows what a task instance was given, and what it handed on."""


def check_access(request: Request, user: GetUserDep, dag_id: str) -> None:
    """
    Let nobody pass who may not read a DAG's task instances and their results.

    The id is handed over, not looked up in the request as Airflow would: what is checked here is what is shown later.

    :raises HTTPException: 403
    """
    for entity in _NEEDED:
        requires_access_dag("GET", entity, dag_id)(request, user)
