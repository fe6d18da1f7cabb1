# SPDX-License-Identifier: Apache-2.0
"""
The model that is served, from loading to draining, without HTTP.

It is loaded in a thread while the server listens already: a large model takes minutes, in which the process is alive and not ready.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_mlops.serving.server.errors import ModelFailed, NotServed, Refused, ServerError, Unready
from airflow_mlops.serving.server.limits import Places
from airflow_mlops.serving.server.measures import Measures
from airflow_mlops.serving.server.models import Model, load
from airflow_mlops.serving.server.protocol import parse_request, write_answer
from airflow_mlops.spec.model_names import shown

if TYPE_CHECKING:
    from airflow_mlops.serving.server.settings import Settings

log = logging.getLogger(__name__)


class Service:
    """One model and the places in which it predicts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model: Model | None = None
        self.failed = False
        self.draining = False
        self.places = Places(settings.concurrency, settings.queue, settings.request_seconds)
        self.measures = Measures(settings.name, settings.version, settings.digest)
        self.measures.watch("predictions_running", "Predictions that run", lambda: self.places.running)
        self.measures.watch("requests_waiting", "Requests that wait for their turn", lambda: self.places.waiting)
        self.measures.watch("predictions_overdue", "Predictions whose time is over", lambda: self.places.overdue)

    def start(self, give_up: Callable[[], None]) -> None:
        """
        Begin to load the model.

        :param give_up: called, in another thread, if it cannot be loaded
        """
        threading.Thread(target=self._load, args=(give_up,), name="load", daemon=True).start()

    def _load(self, give_up: Callable[[], None]) -> None:
        started = time.perf_counter()
        try:
            self.model = load(self.settings)
        except ServerError as error:
            log.error("%s", error)
        except Exception:
            log.exception("the model cannot be loaded")
        if self.model is None:
            self.failed = True
            give_up()
            return
        log.info(
            "%s %s is served from %s, loaded in %.2f s",
            self.settings.name,
            self.settings.version,
            self.settings.model,
            time.perf_counter() - started,
        )

    def check_ready(self) -> Model:
        """
        The model, if the server is ready for requests that come later than this one.

        :raises Unready: if it is not
        """
        if self.draining:
            raise Unready("the server ends")
        return self.loaded()

    def loaded(self) -> Model:
        """
        The model.

        :raises Unready: if it is not there yet
        """
        if self.model is None:
            raise Unready("the model is being loaded")
        return self.model

    def check_server(self, expected: str | None) -> None:
        """
        Compare this server with the one that a router means: another container may have been given its address.

        :raises Unready: if it is another one
        """
        if expected is not None and expected != self.settings.id:
            raise Unready(f"this is not the server {shown(expected)}")

    def check_served(self, name: str, version: str | None) -> None:
        """
        See whether a request is about the model that is served.

        :raises NotServed: if it is about another one
        """
        if name != self.settings.name:
            raise NotServed(f"the model {shown(name)} is not served here; served is {self.settings.name}")
        if version is not None and version != self.settings.version:
            raise NotServed(
                f"the version {shown(version)} of {name} is not served here; served is {self.settings.version}"
            )

    def infer(self, body: bytes, request_id: str) -> bytes:
        """
        Answer an inference request. Called in a thread.

        :raises Refused: of some class
        """
        model = self.loaded()
        request = parse_request(body)
        started = time.perf_counter()
        try:
            outputs = model.predict(request)
        except Refused:
            raise
        except Exception as error:
            log.exception("the model failed for the request %s", request_id)
            raise ModelFailed(f"the model failed; the server's log says more about the request {request_id}") from error
        self.measures.predict_seconds.observe(time.perf_counter() - started)
        return write_answer(self.settings.name, self.settings.version, request.id, outputs)
