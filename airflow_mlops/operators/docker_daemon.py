# SPDX-License-Identifier: Apache-2.0
"""
Patience with a Docker daemon that goes away while a step's container runs: a restart, a broken network, a host that stands still.

What was asked is asked again for as long as the deployment says. So everything that is asked in this way may be done twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from airflow_mlops.operators import patience

if TYPE_CHECKING:
    from docker import APIClient

    from airflow_mlops.operators.docker import DockerStepOperator

_GATEWAYS = frozenset((502, 503, 504))
_SERVER_ERROR = 500
_NEVER = "0001-01-01"
"""How the daemon says that a container was never started."""


class Patience(patience.Patience):
    """
    Patience with a Docker daemon.

    :param cli: the client
    """

    who = "the Docker daemon"
    what = "container"
    errors = (DockerException, RequestException, OSError)

    def __init__(self, cli: APIClient, seconds: float, **kwargs: Any) -> None:
        super().__init__(seconds, **kwargs)
        self.cli = cli

    def is_away(self, error: BaseException) -> bool:
        """A daemon that is there may fail at one thing and must be heard."""
        if not isinstance(error, APIError):
            return isinstance(error, RequestException | OSError)
        if error.status_code in _GATEWAYS:
            return True
        return error.status_code == _SERVER_ERROR and not self._pings()

    def _pings(self) -> bool:
        try:
            return bool(self.cli.ping())
        except (DockerException, RequestException, OSError):
            return False


def start(daemon: Patience, container: str) -> None:
    """
    Start a container, once: a daemon that is asked to start one whose program has ended meanwhile would run it again.

    :raises InfrastructureFailure: if the daemon has been away for too long
    :raises docker.errors.APIError: if it refuses
    """
    cli, asked = daemon.cli, False

    def once() -> None:
        nonlocal asked
        # The answer to an earlier question may have been lost, not the question.
        if asked and not cli.inspect_container(container)["State"]["StartedAt"].startswith(_NEVER):
            return
        asked = True
        cli.start(container)

    daemon.ask(once)


def clients_of(operator: DockerStepOperator) -> list[dict[str, Any]]:
    """Keywords of the clients that reach an operator's daemon, the first choice first, for the process that outlives the task. They hold keys."""
    options = {"version": operator.api_version, "timeout": operator.timeout}
    if operator._host is not None:
        return [{"host": asdict(operator._host), **options}]
    return [{"base_url": url, "tls": _certificates_of(operator), **options} for url in _urls_of(operator)]


@contextlib.contextmanager
def command_line_options(operator: DockerStepOperator) -> Iterator[list[str]]:
    """Options that make Docker's own command talk to the daemon that the operator talks to, for as long as the block lasts."""
    from airflow_mlops.operators.docker_tls import in_memory

    found, host = operator.cli.base_url, operator._host
    if found.startswith("http+docker:"):
        urls = [host.url] if host is not None else _urls_of(operator)
        # The library takes unix://var/run/docker.sock, the provider's default, for an absolute path as well.
        path = next(url for url in urls if url.startswith("unix:")).removeprefix("unix:").lstrip("/")
        yield ["--host", f"unix:///{path}"]
        return
    options = ["--host", f"tcp://{found.partition('://')[2]}"]
    if host is not None and host.tls:
        texts = {"--tlscacert": host.ca_cert, "--tlscert": host.client_cert, "--tlskey": host.client_key}
        given = {name: text for name, text in texts.items() if text is not None}
        with in_memory(*given.values()) as paths:
            files = [word for pair in zip(given, paths, strict=True) for word in pair]
            yield [*options, "--tlsverify" if host.verify else "--tls", *files]
        return
    if host is None and (tls := _certificates_of(operator)) is not None:
        certificate, key = tls["client_cert"]
        options += ["--tlsverify" if tls["verify"] else "--tls", "--tlscacert", tls["ca_cert"]]
        options += ["--tlscert", certificate, "--tlskey", key]
    yield options


def _urls_of(operator: DockerStepOperator) -> list[str]:
    """Addresses of the daemon that an operator talks to, the first choice first."""
    return [operator.docker_url] if isinstance(operator.docker_url, str) else list(operator.docker_url)


def _certificates_of(operator: DockerStepOperator) -> dict[str, Any] | None:
    """What a connection with TLS needs, as ``docker.tls.TLSConfig`` takes it; ``None`` without TLS."""
    if not (operator.tls_ca_cert and operator.tls_client_cert and operator.tls_client_key):
        return None
    certificate = (operator.tls_client_cert, operator.tls_client_key)
    return {"ca_cert": operator.tls_ca_cert, "client_cert": certificate, "verify": operator.tls_verify}
