# SPDX-License-Identifier: Apache-2.0
"""Read the secrets that a step refers to, at the last moment, and have Airflow mask them in every log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable
from airflow.sdk.log import mask_secret

from airflow_mlops.operators.connections import database_reachable, find_connection
from airflow_mlops.operators.failures import BadStep

if TYPE_CHECKING:
    from airflow_mlops.spec.parts import Secret


def read_secrets(secrets: Mapping[str, Secret]) -> tuple[dict[str, str], dict[str, str]]:
    """
    Look secrets up.

    :return: values to be given as files, and values to be given as environment variables, by name
    :raises BadStep: if a connection, field or variable does not exist; the message never holds a value
    """
    files: dict[str, str] = {}
    variables: dict[str, str] = {}
    for name, secret in secrets.items():
        value = _variable(name, secret.variable) if secret.variable else _connection(name, secret)
        mask_secret(value)
        (variables if secret.as_ == "env" else files)[name] = value
    return files, variables


def _variable(name: str, key: str) -> str:
    try:
        with database_reachable():
            value = Variable.get(key)
    except Exception as error:  # the SDK and the metadata database raise different classes for "no such variable"
        raise BadStep(
            f"secret '{name}': Airflow has no variable '{key}'; create it with `airflow variables set`, "
            f"or for a local run as AIRFLOW_VAR_{key.upper()}"
        ) from error
    return str(value)


def _connection(name: str, secret: Secret) -> str:
    field = secret.field or "password"
    connection = find_connection(str(secret.connection), f"secret '{name}'")
    value = _field(connection, field)
    if value is None:
        raise BadStep(f"secret '{name}': connection '{secret.connection}' has no {field}")
    return str(value)


def _field(connection: Any, field: str) -> Any:
    if field == "uri":
        return connection.get_uri()
    if field.startswith("extra."):
        return connection.extra_dejson.get(field.removeprefix("extra."))
    return getattr(connection, field, None)
