# SPDX-License-Identifier: Apache-2.0
"""
What Airflow loads of our pages: a name, and an application that is built at the first request.

Every command, worker and scheduler imports this module, so it must stay as good as free.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/mlops"


class Pages:
    """An ASGI application that loads the real one when it is asked for the first time."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if self._app is None:
            from airflow_mlops.ui.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


class MlopsPlugin(AirflowPlugin):
    """Pages below ``/mlops`` of the API server."""

    name = "mlops"
    fastapi_apps = [{"app": Pages(), "url_prefix": PREFIX, "name": "mlops"}]
