# SPDX-License-Identifier: Apache-2.0
"""What every test can ask for. The fixtures are the real parts of ``tests/parts``; each says there what it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.parts.airflow_home import airflow_home, isolate_airflow, migrated_database, run_dag, run_dag_once
from tests.parts.browser import browser, shoot
from tests.parts.docker import docker_daemon, others_containers
from tests.parts.images import busybox_image, python_image
from tests.parts.mlflow import empty_mlflow, mlflow_server
from tests.parts.namespace import cluster_s3, kubernetes_cluster, namespace
from tests.parts.private_daemon import private_daemon
from tests.parts.remote_daemon import remote_daemon
from tests.parts.s3 import s3_server, s3_store_url
from tests.parts.standalone import standalone

if TYPE_CHECKING:
    import pytest

__all__ = [
    "airflow_home",
    "browser",
    "busybox_image",
    "cluster_s3",
    "docker_daemon",
    "empty_mlflow",
    "kubernetes_cluster",
    "mlflow_server",
    "namespace",
    "others_containers",
    "migrated_database",
    "private_daemon",
    "python_image",
    "remote_daemon",
    "run_dag",
    "run_dag_once",
    "s3_server",
    "s3_store_url",
    "shoot",
    "standalone",
]

# Before any test module is loaded: Airflow reads its settings when it is imported.
isolate_airflow()

MARKER_OF = {
    "docker_daemon": "docker",
    "s3_server": "s3",
    "kubernetes_cluster": "kubernetes",
    "mlflow_server": "mlflow",
    "migrated_database": "airflow",
    "standalone": "slow",
    "browser": "browser",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark a test by the parts that it asks for, so that ``-m "not docker"`` needs no mark on each of them."""
    for item in items:
        for fixture, marker in MARKER_OF.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
