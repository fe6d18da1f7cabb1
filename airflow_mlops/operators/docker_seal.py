# SPDX-License-Identifier: Apache-2.0
"""What a seal says of a step's container: how its program runs, and on which daemon, in which network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.docker import DockerStepOperator

SURROUNDINGS = (
    "api_version",
    "cap_add",
    "dns",
    "dns_search",
    "docker_conn_id",
    "docker_host_conn_id",
    "docker_url",
    "extra_hosts",
    "hostname",
    "ipc_mode",
    "network_mode",
    "tls_ca_cert",
    "tls_client_cert",
    "tls_client_key",
    "tls_hostname",
    "tls_verify",
    "ulimits",
)
"""Attributes of the provider's operator, and our own, that say where a container runs; certificates are paths."""

_SAID_BY_THE_CONNECTION = (
    "docker_url",
    "tls_ca_cert",
    "tls_client_cert",
    "tls_client_key",
    "tls_hostname",
    "tls_verify",
)


def sealed_container(operator: DockerStepOperator, attempt: Attempt) -> dict[str, Any]:
    """What a spec's ``docker:`` and ``volumes`` change of how the program runs; fields of ``SealedStep``."""
    invocation = attempt.invocation
    return {
        "entrypoint": operator.entrypoint_words(),
        "user": str(operator.user),
        "working_dir": (invocation.working_directory if invocation else None) or operator.working_dir,
        "mounts": [f"{item.source}:{item.target}{':ro' if item.read_only else ''}" for item in operator.volumes],
    }


def sealed_docker(operator: DockerStepOperator, host_connection: str | None) -> dict[str, Any]:
    """
    Keywords that make an operator whose containers run in the same surroundings.

    :param host_connection: id of the connection that says which daemon it is, if one does; what it holds is not sealed
    """
    values = {name: getattr(operator, name, None) for name in SURROUNDINGS}
    if host_connection is not None:
        values |= {**dict.fromkeys(_SAID_BY_THE_CONNECTION), "docker_host_conn_id": host_connection}
    # An author's operator may have been given what is no JSON; that is not worth a failure.
    return {name: _plain(value) for name, value in values.items() if value not in (None, [], {}) and _is_json(value)}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
