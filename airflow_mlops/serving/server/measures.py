# SPDX-License-Identifier: Apache-2.0
"""What ``/metrics`` tells Prometheus. Labels have few values, whatever clients send."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Measures:
    """
    Counters of one server.

    :param name: of the model
    :param version: of the model
    :param digest: of the model
    """

    def __init__(self, name: str, version: str, digest: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        labels = {"model": name, "version": version}
        self._answers = Counter(
            "mlops_serve_answers", "Answers by route and status", ["route", "status", *labels], registry=self._registry
        )
        self._seconds = Histogram(
            "mlops_serve_answer_seconds",
            "Seconds from the head of a request to the end of its answer",
            ["route", *labels],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.predict_seconds = Histogram(
            "mlops_serve_predict_seconds",
            "Seconds of a prediction, without reading the request and waiting for a turn",
            list(labels),
            buckets=_BUCKETS,
            registry=self._registry,
        ).labels(**labels)
        self._model = Gauge(
            "mlops_serve_model_info", "The model that is served", ["digest", *labels], registry=self._registry
        )
        self._model.labels(digest=digest, **labels).set(1)
        self._labels = labels

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Tell a number that somebody else keeps."""
        Gauge(f"mlops_serve_{name}", what, registry=self._registry).set_function(value)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers.labels(route=route, status=str(status), **self._labels).inc()
        self._seconds.labels(route=route, **self._labels).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
