# SPDX-License-Identifier: Apache-2.0
"""
The Docker daemon that an Airflow connection names: ``[mlops] docker_host_conn_id``, or the same keyword of a step.

Read when a task runs. What it holds is handed to Docker's client in memory, and to nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException
from airflow.providers.docker.hooks.docker import DockerHook
from airflow.sdk.log import mask_secret

from airflow_mlops.operators.connections import find_connection
from airflow_mlops.operators.docker_tls import Host, Unusable
from airflow_mlops.operators.failures import BadStep, InfrastructureFailure

if TYPE_CHECKING:
    from docker import APIClient

CERTIFICATES = ("ca_cert", "client_cert", "client_key")
_PORTS = {True: 2376, False: 2375}
"""What Docker's own tools take where none is named: with and without TLS."""

_SCHEMES = ("tcp", "http", "https", "unix")


def named_host(conn_id: str) -> Host:
    """
    Read a connection as a Docker daemon. Its key is masked in every log from then on.

    :raises BadStep: if there is none, or it is not one of a daemon; the message holds nothing that is secret
    """
    where = f"Docker host, connection '{conn_id}'"
    connection = find_connection(conn_id, where)
    extra = _extra(connection.extra, where)
    texts = {name: _pem(extra[name], name, where) for name in CERTIFICATES if extra.get(name) not in (None, "")}
    _mask(texts.get("client_key"))
    if ("client_cert" in texts) != ("client_key" in texts):
        missing = "client_key" if "client_cert" in texts else "client_cert"
        raise BadStep(f"{where}: its extra has no {missing}; expected client_cert and client_key, or neither")
    url, tls = _url(connection.host, connection.port, bool(texts), where)
    host = Host(url, tls, verify=_flag(extra.get("verify", True), where), **texts)
    if tls:
        try:
            host.context()
        except Unusable as error:
            raise BadStep(f"{where}: {error}; expected PEM text, or the path of such a file") from None
    return host


class HostHook(DockerHook):
    """
    The provider's hook, which tells a daemon that is away from one that will not have us.

    :param conn_id: where the host comes from
    :param keywords: of the provider's hook
    """

    def __init__(self, host: Host, conn_id: str, **keywords: Any) -> None:
        super().__init__(base_url=host.url, tls=host.tls_config(), **keywords)
        self._host, self._conn_id = host, conn_id

    @cached_property
    def api_client(self) -> APIClient:
        """
        The client.

        :raises BadStep: if the daemon and the connection do not fit
        :raises InfrastructureFailure: if the daemon does not answer
        """
        try:
            return super().api_client
        except AirflowNotFoundException:  # the registry's connection, which has nothing to do with the daemon
            raise
        except AirflowException as error:
            raise why_not(self._host, self._conn_id) from error


def why_not(host: Host, conn_id: str) -> BadStep | InfrastructureFailure:
    """What to say of a daemon that gave no answer."""
    where = f"the Docker daemon at {host.url} (connection '{conn_id}')"
    try:
        reason = host.refusal()
    except OSError as error:
        return InfrastructureFailure(
            f"{where} cannot be reached: {error.strerror or error}; start it, or mend the connection"
        )
    if reason is not None:
        return BadStep(f"{where} cannot be used: {reason}; look at ca_cert, client_cert and client_key in its extra")
    return InfrastructureFailure(f"{where} does not answer as one; look at its own log")


def _extra(text: Any, where: str) -> Mapping[str, Any]:
    try:
        extra = json.loads(text) if text else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise BadStep(f"{where}: its extra is no JSON object; expected one with {', '.join(CERTIFICATES)} and verify")
    return extra


def _pem(value: Any, name: str, where: str) -> str:
    """PEM text, or that of the file that is named."""
    if isinstance(value, str) and "-----BEGIN" in value:
        return value
    if not isinstance(value, str) or not value.startswith("/"):
        raise BadStep(f"{where}: {name} is neither PEM text (-----BEGIN …) nor an absolute path on this worker")
    try:
        return Path(value).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadStep(
            f"{where}: {name} names a file that cannot be read on this worker: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from None


def _url(host: Any, port: Any, certified: bool, where: str) -> tuple[str, bool]:
    """The daemon's address, and whether it speaks TLS."""
    text = str(host or "").strip()
    if not text:
        raise BadStep(f"{where}: it has no host; expected one such as docker.acme.example or tcp://10.0.0.7:2376")
    if "://" not in text:
        text = f"tcp://[{text}]" if text.count(":") > 1 and not text.startswith("[") else f"tcp://{text}"
    try:
        parts = urlsplit(text)
        scheme, name, found = parts.scheme, parts.hostname, parts.port or port
    except ValueError:
        scheme, name, found = "", None, None
    if scheme == "unix" and parts.path:
        if certified:
            raise BadStep(f"{where}: a socket speaks no TLS; expected no certificates in its extra, or a host")
        return text, False
    if scheme not in _SCHEMES or not name or "@" in parts.netloc or parts.path.strip("/") or parts.query:
        raise BadStep(
            f"{where}: its host is not the address of a Docker daemon; expected a name, tcp://name:2376 or unix:///path"
        )
    tls = certified or scheme == "https"
    shown = f"[{name}]" if ":" in name else name
    return f"tcp://{shown}:{found or _PORTS[tls]}", tls


def _flag(value: Any, where: str) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise BadStep(f"{where}: verify in its extra is {str(value)[:40]!r}; expected true or false")
    return text == "true"


def _mask(key: str | None) -> None:
    """A key has lines, and a log shows one at a time."""
    if key is not None:
        mask_secret(key)
        for line in key.splitlines():
            if not line.startswith("-----"):
                mask_secret(line)
