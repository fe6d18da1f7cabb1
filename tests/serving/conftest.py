# SPDX-License-Identifier: Apache-2.0
"""Servers and models for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.model_server import ModelServer, held, iris_skops, running_server

for package in ("fastapi", "h11", "orjson", "prometheus_client", "sklearn", "skops", "uvicorn"):
    pytest.importorskip(
        package, reason="needed by the model server or its models; run: pip install '.[serving]' scikit-learn skops"
    )


@pytest.fixture(scope="session")
def skops_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that skops has written."""
    return iris_skops(tmp_path_factory.mktemp("skops") / "model.skops")


@pytest.fixture(scope="session")
def server(skops_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A running server of it, whose bounds are small."""
    folder = tmp_path_factory.mktemp("server")
    bounds = {"body_limit": 1 << 20, "body_seconds": 1, "head_seconds": 1, "id": "iris-0"}
    with running_server(skops_file, folder / "log", **bounds) as found:
        yield found


@pytest.fixture
def held_server(tmp_path: Path) -> Iterator[ModelServer]:
    """A running server of a model that answers when it is released: one prediction at a time, one request in the queue."""
    model = held(tmp_path / "held")
    bounds = {"formats": "pickle", "concurrency": 1, "queue": 1, "request_seconds": 20}
    with running_server(model, tmp_path / "log", **bounds) as found:
        yield found
        (model.parent / "released").touch()
