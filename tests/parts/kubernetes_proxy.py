# SPDX-License-Identifier: Apache-2.0
"""
A proxy before a real Kubernetes API server, and what such a server says when it fails.

The worker speaks to the proxy without TLS, by a kubeconfig of its own; its token passes through, and with it the rights of its own account.
"""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.parts.proxy import Answer, Proxy


def status_of(code: int, reason: str, message: str) -> dict[str, Any]:
    """A failure in the API server's own form."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def failure(code: int, reason: str, message: str) -> Answer:
    """A failure as the answer to a request."""
    return Answer(code, json.dumps(status_of(code, reason, message)).encode())


TOO_OLD = (410, "Expired", "too old resource version: 1 (1000)")
GONE = failure(*TOO_OLD)
"""What was last seen is too long ago, as a status."""

GONE_IN_WATCH = Answer(200, json.dumps({"type": "ERROR", "object": status_of(*TOO_OLD)}).encode() + b"\n")
"""The same as an API server says it to a watch: in the stream."""

HALF_AN_EVENT = Answer(200, b'{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"na\n')
"""What a gateway makes of a watch whose server is gone: an answer that ends well and says nothing whole."""

LOGIN = Answer(200, b"<html><body>Please log in.</body></html>\n", "text/html")
NO_PODS = Answer(200, b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}\n')
"""What a proxy says that knows nothing of watches."""

TOO_MANY = Answer(429, b"Too many requests, please try again later.\n", "text/plain; charset=utf-8", retry_after=1)
"""An API server that is overloaded sends no JSON."""

INTERNAL = failure(500, "InternalError", "Internal error occurred: etcdserver: leader changed")
MAINTENANCE = Answer(503, b"<html><body>Back in an hour.</body></html>", "text/html", retry_after=3600)
"""A gateway before an API server that is not there."""


def proxied_kubeconfig(kubeconfig: Path, file: Path) -> Proxy:
    """
    Put a proxy before the API server of a kubeconfig that :class:`~tests.parts.kubernetes.Cluster` has written.

    :param file: where a kubeconfig for the proxy is written
    """
    config = json.loads(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    server = urlsplit(cluster["server"])
    assert server.hostname is not None and server.port is not None
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster.pop("certificate-authority-data")).decode())
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the cluster's certificate is its own authority
    proxy = Proxy(("127.0.0.1", 0), (server.hostname, server.port), trust)
    cluster["server"] = f"http://127.0.0.1:{proxy.port}"
    file.touch(mode=0o600)
    file.write_text(json.dumps(config))
    return proxy
