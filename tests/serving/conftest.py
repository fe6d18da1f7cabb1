# SPDX-License-Identifier: Apache-2.0
"""Servers and models for the tests of this folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.parts.model_server import ModelServer, held, iris_skops, running_server

MISSING = [
    name
    for name in ("fastapi", "h11", "orjson", "prometheus_client", "sklearn", "skops", "uvicorn")
    if importlib.util.find_spec(name) is None
]
"""What is not here of what every test module of this folder imports, by itself or by the server."""


class _Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(
            f"the model server needs {', '.join(MISSING)}; run: pip install '.[serving]' scikit-learn skops",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip the modules of this folder, with the reason, where something is missing."""
    return _Skipped.from_parent(parent, path=module_path) if MISSING else None


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
