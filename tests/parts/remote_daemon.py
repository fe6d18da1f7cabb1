# SPDX-License-Identifier: Apache-2.0
"""
A second Docker daemon, which is reached over TCP with TLS and wants to see a certificate, as one on another host does.

It is on this machine, so that it sees the worker's files; ``docker_transfer = volume`` makes steps do without that.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.parts.private_daemon import PrivateDaemon, running
from tests.parts.s3 import free_port

ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM text."""

    certificate: str
    key: str


class Authority:
    """Somebody who signs certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        signed = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.certificate = _pem(signed)

    def sign(self, name: str) -> Pair:
        """A certificate for a server at the loopback address, or for whoever talks to one."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))])
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(subject, key.public_key()).add_extension(where, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(uses, critical=False).add_extension(issuer, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Pair(_pem(signed), key.private_bytes(*form).decode())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class RemoteDaemon(PrivateDaemon):
    """A daemon behind TLS. Tests look at it through a socket of its own, steps do not know that one."""

    bridge = "docker0"
    """The other daemon's, as it is. One that is told to have none removes that of the machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.authority = Authority("of the tests")
        self.client = self.authority.sign("worker")

    def network(self) -> list[str]:
        """That of the machine, since it must be reached; it changes nothing there (no bridge of its own, no rules)."""
        return []

    def start(self, *options: str) -> None:
        """Start it, or start it again with what it has on its disk."""
        server = self.authority.sign("daemon")
        texts = {"cacert": self.authority.certificate, "cert": server.certificate, "key": server.key}
        words = ["--tlsverify", "--ip-forward=false", "--host", f"tcp://{ADDRESS}:{self.port}"]
        for name, text in texts.items():
            path = self.folder / f"{name}.pem"
            path.write_text(text)
            words += [f"--tls{name}", str(path)]
        super().start(*words, *options)

    def connection(self, **changes: Any) -> str:
        """
        The Airflow connection to it, in the form of ``AIRFLOW_CONN_…``.

        :param changes: of its fields; those of ``extra`` are changed there
        """
        certificates = {
            "ca_cert": self.authority.certificate,
            "client_cert": self.client.certificate,
            "client_key": self.client.key,
        }
        extra = {**certificates, **changes.pop("extra", {})}
        left = {name: value for name, value in extra.items() if value is not None}
        fields = {"conn_type": "docker", "host": ADDRESS, "port": self.port, "extra": left, **changes}
        return json.dumps(fields)


@pytest.fixture
def remote_daemon(docker_daemon: str, busybox_image: str) -> Iterator[RemoteDaemon]:
    """A daemon behind TLS, which has the busybox image."""
    with running(RemoteDaemon) as daemon:
        yield daemon
