# SPDX-License-Identifier: Apache-2.0
"""
The store's file system with the credentials of an Airflow connection, made as the provider of the connection makes it.

So whatever the team's connections can do (roles, session tokens, other endpoints) works here, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_mlops.artifacts import ArtifactError
from airflow_mlops.operators.connections import database_reachable, find_connection
from airflow_mlops.operators.failures import BadStep

_PROVIDERS = {
    "s3": "apache-airflow-providers-amazon[s3fs]",
    "s3a": "apache-airflow-providers-amazon[s3fs]",
    "gs": "apache-airflow-providers-google",
    "gcs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
}


def file_system(scheme: str, conn_id: str, storage_options: Mapping[str, Any]) -> Any:
    """
    Make it.

    :param storage_options: as the provider takes them, which may differ from what fsspec's file system does
    :raises ArtifactError: if there is no such connection, or no provider for the scheme
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _made(scheme, conn_id, storage_options)
    # In a notebook: providers ask for credentials in a loop of their own, and a thread has one at most.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_made, scheme, conn_id, storage_options).result()


def _made(scheme: str, conn_id: str, storage_options: Mapping[str, Any]) -> Any:
    from airflow.sdk.io import get_fs, has_fs

    try:
        # Providers go on without credentials where there is no connection.
        find_connection(conn_id, "[mlops] store_conn_id")
    except BadStep as error:
        raise ArtifactError(str(error)) from error
    if not has_fs(scheme):
        package = _PROVIDERS.get(scheme, f"the provider of {scheme}:// stores")
        raise ArtifactError(
            f"[mlops] store_conn_id: no installed Airflow provider opens {scheme}://; install {package} where tasks run"
        )
    with database_reachable():
        return get_fs(scheme, conn_id, dict(storage_options))
