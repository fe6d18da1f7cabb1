# SPDX-License-Identifier: Apache-2.0
"""
The application behind ``/mlops``: one page for what a generation of a step committed, and its files. Loaded at the first request.

What is shown was made by programs, so nothing of it is ever run: no scripts, a strict Content-Security-Policy on every answer, and files only
as attachments.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_mlops.operators.links import DOWNLOAD, PAGE
from airflow_mlops.ui.access import GetUserDep, check_access
from airflow_mlops.ui.asked import Asked
from airflow_mlops.ui.problems import Problem
from airflow_mlops.ui.reading import fetch, find
from airflow_mlops.ui.view import page_of

TEMPLATES = Path(__file__).with_name("templates")
PAGE_SECONDS = 30.0
DOWNLOAD_SECONDS = 120.0
BLOCK = 256 * 1024

_NO_PAGE = (
    "There is no such page",
    "Nothing is served at this address.",
    ("Open the link Artifacts of a task instance.",),
)
REFUSALS = {
    401: (
        "You are not logged in",
        "Pages of Airflow are for its users.",
        ("Log in to Airflow, then open this page again.",),
    ),
    403: (
        "You may not see this",
        "Your user may not read the task instances and XComs of this DAG.",
        ("Ask whoever runs this Airflow for the permission.",),
    ),
    404: _NO_PAGE,
    405: _NO_PAGE,
}
"""What is said, by the status with which Airflow's login or the router refuses a request."""

T = TypeVar("T")

# A store that hangs must not take the threads with which the API server answers everybody else.
_readers = ThreadPoolExecutor(4, thread_name_prefix="mlops-pages")

_STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_templates = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates.globals["style"] = _STYLE


def asked_for(request: Request, user: GetUserDep) -> Asked:
    """What a request asks for, if its user may see it."""
    asked = Asked.of(request.query_params.multi_items())
    check_access(request, user, asked.dag_id)
    request.state.mlops_asked = asked  # for the way back, if it ends in a problem
    return asked


async def artifacts_page(asked: Annotated[Asked, Depends(asked_for)]) -> Response:
    """The page of one generation of a task instance."""
    page = await _read(lambda: page_of(asked, find(asked)), PAGE_SECONDS)
    return _html("page.html", 200, page=page)


async def download(asked: Annotated[Asked, Depends(asked_for)]) -> Response:
    """One artifact, as a file to keep, never to be shown."""
    file, artifact = await _read(lambda: fetch(asked), DOWNLOAD_SECONDS)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", artifact.file or artifact.name).lstrip(".") or "artifact"
    return StreamingResponse(
        _blocks(file),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(artifact.size)},
    )


def make_app() -> Any:
    """The application, without what FastAPI adds for the curious."""
    app = FastAPI(title="airflow_mlops", docs_url=None, redoc_url=None, openapi_url=None)
    app.get(f"/{PAGE}")(artifacts_page)
    app.get(f"/{DOWNLOAD}")(download)
    app.exception_handler(Problem)(_problem)
    for status in REFUSALS:
        app.exception_handler(status)(_refused)
    app.exception_handler(Exception)(_unforeseen)
    return _WithHeaders(app)


async def _read(read: Callable[[], T], seconds: float) -> T:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(_readers.submit(read)), seconds)
    except TimeoutError:
        raise Problem(
            503,
            "The store does not answer",
            f"The store of artifacts did not answer within {seconds:.0f} s.",
            ("Try again later.", "It may be slow, or out of reach of this API server."),
        ) from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK):
            yield block


def _html(template: str, status: int, **values: Any) -> HTMLResponse:
    # A name may hold what cannot be encoded.
    return HTMLResponse(_templates.get_template(template).render(values).encode("utf-8", "replace"), status)


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)  # noqa: S101 - that is what it is registered for
    return _html("problem.html", problem.status, problem=problem, asked=getattr(request.state, "mlops_asked", None))


async def _refused(request: Request, error: Exception) -> Response:
    """What Airflow's login, or the router, says."""
    status: int = getattr(error, "status_code", 404)
    return _html("problem.html", status, problem=Problem(status, *REFUSALS[status]), asked=None)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Say so; the error itself is in the API server's log."""
    problem = Problem(
        500, "This page failed", "An error that nobody foresaw.", ("The log of the API server says more.",)
    )
    return _html("problem.html", 500, problem=problem, asked=None)


class _WithHeaders:
    """Put our headers on every answer, whoever gives it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        ours = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [item for item in message.get("headers", ()) if item[0].lower() not in ours]
                message = {**message, "headers": [*kept, *ours.items()]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
