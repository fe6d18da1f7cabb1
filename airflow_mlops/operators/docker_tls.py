# SPDX-License-Identifier: Apache-2.0
"""
A Docker daemon that is reached with certificates which are texts, as an Airflow connection holds them. Without Airflow: a process that
outlives the task needs it, too.

A private key never becomes a file that could be left behind: it is read from memory once, when a client is made.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from docker.tls import TLSConfig
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from docker import APIClient

_SECONDS = 5.0
"""For one step of finding out why a daemon is not to be had."""

_REFUSALS = (
    *("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE", "DECRYPT_ERROR"),
    *("PROTOCOL_VERSION", "WRONG_VERSION", "RECORD_LAYER", "NO_SHARED", "BAD_SIGNATURE", "EE_KEY", "CA_KEY"),
)
"""Parts of OpenSSL's reasons that stay the same however often one tries."""


class Unusable(ValueError):
    """Certificates cannot be used. The message holds nothing of them."""


@dataclass(frozen=True, slots=True)
class Host:
    """
    Where a daemon is, and how it is talked to.

    :param url: ``tcp://host:port`` or ``unix:///path``
    :param tls: whether it speaks TLS
    :param ca_cert: what its certificate is checked with, as PEM text; ``None`` for the authorities that the system trusts
    :param client_cert: what it knows us by
    :param client_key: the key of that
    :param verify: whether its certificate is checked at all
    """

    url: str
    tls: bool = False
    ca_cert: str | None = field(default=None, repr=False)
    client_cert: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """
        What a connection is made with.

        :raises Unusable: naming the certificate that cannot be used
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self.verify else _trusting()
        if self.verify and self.ca_cert is None:
            context.load_default_certs()
        elif self.verify:
            with _unusable("ca_cert is no certificate in PEM form"):
                context.load_verify_locations(cadata=self.ca_cert)
        if self.client_cert is not None and self.client_key is not None:
            with (
                in_memory(self.client_cert, self.client_key) as (certificate, key),
                _unusable("client_cert and client_key are no certificate in PEM form with its key, unencrypted"),
            ):
                context.load_cert_chain(certificate, key, password=_no_password)
        return context

    def tls_config(self) -> TLSConfig | None:
        """What Docker's client library takes; ``None`` without TLS."""
        return _TLS(self) if self.tls else None

    def connect(self, **options: Any) -> APIClient:
        """
        A client of the daemon.

        :param options: further keywords of Docker's client
        :raises docker.errors.DockerException: if it does not answer
        :raises Unusable: if its certificates cannot be used
        """
        import docker

        return docker.APIClient(base_url=self.url, tls=self.tls_config() or False, **options)

    def refusal(self) -> str | None:
        """
        Why the daemon will not talk to us, in words; ``None`` if it would.

        Nothing is sent after the handshake: what a daemon says of a certificate arrives then for certain, and else may be lost.

        :raises OSError: if the daemon, or the way to it, fails
        """
        parts = urlsplit(self.url)
        if parts.scheme == "unix" or parts.hostname is None or parts.port is None:
            return None
        context = self.context() if self.tls else _trusting()
        try:
            with (
                socket.create_connection((parts.hostname, parts.port), _SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=parts.hostname) as connection,
            ):
                if not self.tls:
                    return "it speaks TLS, and the connection has no certificates for it"
                with contextlib.suppress(TimeoutError):
                    connection.recv(1)
        except ssl.SSLError as error:
            reason = str(error.reason or "")
            if self.tls and isinstance(error, ssl.SSLCertVerificationError):
                return f"its certificate is not trusted: {error.verify_message}"
            if self.tls and any(word in reason for word in _REFUSALS):
                wrong = "WRONG_VERSION" in reason or "RECORD_LAYER" in reason
                what = "it speaks no TLS" if wrong else "it refuses the certificate"
                return f"{what} ({reason.lower().replace('_', ' ')})"
            if self.tls:
                raise
        return None


@contextlib.contextmanager
def in_memory(*texts: str) -> Iterator[list[str]]:
    """
    Paths of texts, for what takes nothing but files: they lie in memory, this process's user alone can read them, and they are gone with it.
    """
    with contextlib.ExitStack() as stack:
        paths = []
        for text in texts:
            file = stack.enter_context(open(os.memfd_create("mlops"), "w", encoding="utf-8"))
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o400)
            paths.append(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        yield paths


class _TLS(TLSConfig):  # type: ignore[misc]  # the library has no types
    """The library takes paths, which would have to lie there for as long as a client lives."""

    def __init__(self, host: Host) -> None:
        super().__init__(verify=host.verify)
        self._context = host.context()

    def configure_client(self, client: APIClient) -> None:
        super().configure_client(client)
        client.mount("https://", _Adapter(self._context, verify=bool(self.verify)))


class _Adapter(HTTPAdapter):
    """Connections that trust what the context trusts, whatever the environment (``REQUESTS_CA_BUNDLE``) says."""

    def __init__(self, context: ssl.SSLContext, *, verify: bool) -> None:
        self._context, self._verify = context, verify
        super().__init__()

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        super().init_poolmanager(*args, **keywords, ssl_context=self._context)

    def proxy_manager_for(self, proxy: Any, **keywords: Any) -> Any:
        return super().proxy_manager_for(proxy, **keywords, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        return super().build_connection_pool_key_attributes(request, self._verify)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context has all of it."""


@contextlib.contextmanager
def _unusable(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OSError) as error:  # among them ssl.SSLError
        reason = getattr(error, "reason", None)
        raise Unusable(f"{what}{f' ({reason})' if isinstance(reason, str) else ''}") from None


def _trusting() -> ssl.SSLContext:
    """A context that takes any certificate of the daemon."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """Asked of a terminal otherwise, for a key that is encrypted."""
    raise ValueError("the key is encrypted")
