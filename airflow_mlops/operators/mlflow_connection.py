# SPDX-License-Identifier: Apache-2.0
"""Where a deployment's MLflow server is, and with which credentials: an Airflow connection, by reference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlops.operators.connections import find_connection
from airflow_mlops.operators.failures import BadStep

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from airflow_mlops.operators.settings import Settings
    from airflow_mlops.registry import ModelRegistry

URI, USER, PASSWORD, TOKEN = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
"""The environment that MLflow's clients read."""


@dataclass(frozen=True)
class MlflowAddress:
    """
    An MLflow server.

    :param uri: ``http://`` or ``https://``, without credentials
    :param credentials: variables of the environment that MLflow's clients read, with their values
    """

    uri: str
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    def enter(self) -> None:
        """Have MLflow's client in this process use it."""
        for name in (USER, PASSWORD, TOKEN):
            os.environ.pop(name, None)
        os.environ.update({URI: self.uri, **self.credentials})


def mlflow_address(settings: Settings) -> MlflowAddress:
    """
    The server of this deployment.

    :raises BadStep: if there is no connection, or it has no address
    """
    conn_id = settings.mlflow_conn_id
    if conn_id is None:
        raise BadStep(
            "[mlops] model_registry is mlflow, and mlflow_conn_id is not set; expected the connection of its server"
        )
    found = find_connection(conn_id, "[mlops] mlflow_conn_id")
    # The schema of an HTTP connection is http or https; where Airflow has read the connection from a URI, that is its type, and the schema the path.
    host, schema = str(found.host or ""), str(found.schema or "")
    scheme = next((word for word in (schema, found.conn_type) if word in ("http", "https")), "http")
    uri = host if "://" in host else f"{scheme}://{host}"
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise BadStep(
            f"[mlops] mlflow_conn_id: connection '{conn_id}' has no address of an MLflow server; expected a host such as "
            "https://mlflow.example.com, and the credentials in login and password, or a token in password"
        )
    if found.port and not parts.port:
        parts = parts._replace(netloc=f"{parts.netloc}:{found.port}")
    path = parts.path.rstrip("/") + (f"/{schema.strip('/')}" if schema not in ("", "http", "https") else "")
    uri = parts._replace(path=path).geturl()
    password = str(found.password or "")
    if found.login:
        return MlflowAddress(uri.rstrip("/"), {USER: str(found.login), PASSWORD: password})
    return MlflowAddress(uri.rstrip("/"), {TOKEN: password} if password else {})


def open_registry(settings: Settings, store: Store, instance: str) -> ModelRegistry:
    """
    The model registry of a deployment, as ``[mlops] model_registry`` says.

    :param instance: id of the Airflow installation
    """
    from airflow_mlops.registry import FileRegistry, MlflowRegistry

    if settings.model_registry == "files":
        return FileRegistry(store, instance)
    address = mlflow_address(settings)
    address.enter()
    return MlflowRegistry(store, instance, address.uri)
