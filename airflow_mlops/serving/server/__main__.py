# SPDX-License-Identifier: Apache-2.0
"""
``python -m airflow_mlops.serving.server``: serve the model that the environment names.

SIGTERM drains: readiness is refused, requests are still taken for the time that routers need to notice, then the listener is closed, what runs is
answered, and the process ends with 0. It ends with 1 if the model cannot be loaded, and with 2 if the settings are wrong.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from types import FrameType

import uvicorn

from airflow_mlops.serving.server.access_log import JsonLines
from airflow_mlops.serving.server.app import create_app
from airflow_mlops.serving.server.connections import bounded
from airflow_mlops.serving.server.errors import SettingsInvalid
from airflow_mlops.serving.server.service import Service
from airflow_mlops.serving.server.settings import Settings

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn, which on SIGTERM closes its listener at once: routers would still send requests there."""

    def __init__(self, settings: Settings) -> None:
        self._service = Service(settings)
        self._drained_at = math.inf
        super().__init__(
            uvicorn.Config(
                create_app(self._service, self._give_up),
                host=settings.host,
                port=settings.port,
                http=bounded(head_seconds=settings.head_seconds, most=settings.connections),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=settings.keep_alive_seconds,
                # Whatever has been taken has been answered by then, unless its client does not read.
                timeout_graceful_shutdown=math.ceil(settings.body_seconds + settings.request_seconds) + 1,
            )
        )

    def _give_up(self) -> None:
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the second signal ends that, as SIGINT does."""
        # The signal is not kept: uvicorn would raise it once more at the end, and the process not end with 0.
        if sig == signal.SIGTERM and not self._service.draining:
            self._service.draining = True
            self._drained_at = time.monotonic() + self._service.settings.drain_seconds
            return
        self._service.draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn."""
        return time.monotonic() >= self._drained_at or await super().on_tick(counter)

    def serve_until_told(self) -> int:
        """Serve; the exit code."""
        self.run()
        code = 1 if self._service.failed else 0
        if self._service.places.running:
            # Python would wait for threads that a model does not give back.
            log.warning("%d predictions run on; they are given up", self._service.places.running)
            sys.stdout.flush()
            os._exit(code)
        return code


def main() -> int:
    """Serve until a signal comes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsInvalid as error:
        log.error("%s", error)
        return 2
    # Read when the library that loads the model brings OpenMP along.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    return _Server(settings).serve_until_told()


if __name__ == "__main__":
    sys.exit(main())
