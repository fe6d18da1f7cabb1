# SPDX-License-Identifier: Apache-2.0
"""The server's paths: those of the Open Inference Protocol V2, and ``/metrics``."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from airflow_mlops.serving.server.access_log import Surroundings
from airflow_mlops.serving.server.errors import Refused, Unauthorized
from airflow_mlops.serving.server.limits import Bodies, error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from airflow_mlops.serving.server.service import Service

NAME = "airflow-mlops-server"
SERVER_HEADER = "x-mlops-server"
"""The request header with which a router says which server it means."""

_PLATFORM = "application/json"
_METRICS = "text/plain; version=1.0.0; charset=utf-8"


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _server_version() -> str:
    try:
        return version("airflow-provider-mlops")
    except PackageNotFoundError:
        return "0"  # run from a checkout


def create_app(service: Service, give_up: Callable[[], None]) -> ASGIApp:
    """
    The application.

    :param give_up: called if the model cannot be loaded
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start(give_up)
        yield
        service.places.close()

    # No pages of documentation: they would load scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    # Paths are tried in this order, so that predictions come first.
    _add_model_routes(app, service)
    _add_server_routes(app, service)
    token = service.settings.token
    expected = None if token is None else b"Bearer " + token.encode("ascii")

    def admit(path: str, infers: bool, headers: MutableMapping[bytes, bytes]) -> None:
        """What can be said of a request before its body is read."""
        if expected is not None and not _is_health(path):
            if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
                raise Unauthorized
        if infers:
            service.loaded()
            service.places.check()

    return Surroundings(Bodies(app, settings=service.settings, admit=admit), service)


def _is_health(path: str) -> bool:
    """Whether a path is one that probes and routers ask, which have no token."""
    return path in ("/v2/health/live", "/v2/health/ready") or (
        path.startswith("/v2/models/") and path.endswith("/ready")
    )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - the handler is that of this class
    return Response(error_body(str(error)), error.status, error.headers, "application/json")


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is that of this class
    message = {404: "there is no such path; see the Open Inference Protocol V2", 405: "the path takes another method"}
    return Response(
        error_body(message.get(error.status_code, error.detail)),
        error.status_code,
        error.headers,
        "application/json",
    )


def _add_server_routes(app: FastAPI, service: Service) -> None:
    async def server() -> Response:
        return _json({"name": NAME, "version": _server_version(), "extensions": []})

    async def live() -> Response:
        if service.places.stuck:
            return _json({"live": False, "error": "every prediction that runs is past its time"}, 503)
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        return _readiness(service, request, {})

    async def metrics() -> Response:
        return Response(service.measures.text(), media_type=_METRICS)

    for path, function in (("", server), ("/health/live", live), ("/health/ready", ready)):
        app.add_api_route(f"/v2{path}", function, methods=["GET"], response_model=None)
    app.add_api_route("/metrics", metrics, methods=["GET"], response_model=None)


def _readiness(service: Service, request: Request, said: dict[str, Any]) -> Response:
    try:
        service.check_server(request.headers.get(SERVER_HEADER))
        service.check_ready()
    except Refused as refused:
        return _json({**said, "ready": False, "error": str(refused)}, refused.status)
    return _json({**said, "ready": True})


def _add_model_routes(app: FastAPI, service: Service) -> None:
    async def metadata(name: str, version: str | None = None) -> Response:
        service.check_served(name, version)
        model = service.loaded()
        return _json(
            {
                "name": service.settings.name,
                "versions": [service.settings.version],
                "platform": model.platform,
                "inputs": [one.to_json() for one in model.inputs],
                "outputs": [one.to_json() for one in model.outputs],
            }
        )

    async def ready(request: Request, name: str, version: str | None = None) -> Response:
        service.check_served(name, version)
        return _readiness(service, request, {"name": name})

    async def infer(request: Request) -> Response:
        service.check_served(request.path_params["name"], request.path_params.get("version"))
        body = await request.body()
        identity = request.scope["mlops_request_id"]
        return Response(await service.places.run(lambda: service.infer(body, identity)), media_type="application/json")

    prefixes = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    for prefix in prefixes:
        # A plain route: FastAPI has nothing to find out here, and would take a tenth of a millisecond for it.
        app.add_route(f"{prefix}/infer", infer, methods=["POST"])
    for prefix in prefixes:
        app.add_api_route(prefix, metadata, methods=["GET"], response_model=None)
        app.add_api_route(f"{prefix}/ready", ready, methods=["GET"], response_model=None)
