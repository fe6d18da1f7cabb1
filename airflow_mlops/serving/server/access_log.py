# SPDX-License-Identifier: Apache-2.0
"""
What surrounds every request: its id, the model's version in the headers of the answer, one line of JSON for it on stdout, and its place in the
metrics.

Health checks and scrapes that went well, or came while the model was being loaded, are not logged: routers ask every second.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from airflow_mlops.serving.server.limits import error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_mlops.serving.server.service import Service

log = logging.getLogger(__name__)

_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_MODEL = re.compile(r"/v2/models/[^/]+(?:/versions/[^/]+)?(?:/(infer|ready))?")
_ROUTES = {"/v2": "server", "/v2/health/live": "live", "/v2/health/ready": "ready", "/metrics": "metrics"}
_QUIET = ("live", "ready", "model_ready", "metrics")
_SHOWN = 256


def route_of(path: str) -> str:
    """One word for what is asked for."""
    if path in _ROUTES:
        return _ROUTES[path]
    match = _MODEL.fullmatch(path)
    if match is None:
        return "other"
    return {"infer": "infer", "ready": "model_ready"}.get(match[1], "model")


class JsonLines(logging.Formatter):
    """The server's own log as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        line = {"time": _time(record.created), "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class Surroundings:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        settings = service.settings
        self._headers = [
            (b"mlops-model-version", settings.version.encode()),
            (b"mlops-model-digest", settings.digest.encode()),
        ]
        self._logs = settings.access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        identity = _identity(scope["headers"])
        scope["mlops_request_id"] = identity.decode()
        seen: dict[str, Any] = {"status": 0, "bytes": 0}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                headers = [*message.get("headers", ()), *self._headers, (b"x-request-id", identity)]
                if self._service.draining and not any(name == b"connection" for name, _ in headers):
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            else:
                seen["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, told)
        except Exception:
            log.exception("the request %s failed", identity.decode())
            if not seen["status"]:
                await _say_failed(told, identity.decode())
        finally:
            self._done(scope, seen, identity, time.perf_counter() - started)

    def _done(self, scope: Scope, seen: Mapping[str, Any], identity: bytes, seconds: float) -> None:
        route = route_of(scope["path"])
        self._service.measures.answered(route, seen["status"], seconds)
        quiet = route in _QUIET and (seen["status"] == 200 or self._service.model is None)
        if not self._logs or quiet:
            return
        client = scope.get("client")
        line = {
            "time": _time(time.time()),
            "id": identity.decode(),
            "client": client[0] if client else None,
            "method": scope["method"][:_SHOWN],
            "path": scope["path"][:_SHOWN],
            "status": seen["status"],
            "ms": round(seconds * 1000, 3),
            "bytes_in": scope.get("mlops_body_size", 0),
            "bytes_out": seen["bytes"],
            "model": self._service.settings.name,
            "version": self._service.settings.version,
        }
        # Whoever read the log may be gone; requests are answered all the same.
        with suppress(OSError):
            sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
            sys.stdout.buffer.flush()


def _identity(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The client's id of a request if it is fit for a log, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return value
    return secrets.token_hex(8).encode()


async def _say_failed(send: Send, identity: str) -> None:
    body = error_body(f"the server failed; its log says more about the request {identity}")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
