# SPDX-License-Identifier: Apache-2.0
"""
Our model server as a process on the loopback interface, and the models that it serves in tests: real ones, and one that answers when a test says so.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from airflow_mlops.artifacts import digest_path
from tests.parts.held_model import HeldModel
from tests.parts.images import ROOT
from tests.parts.processes import start_server, stop_server
from tests.parts.s3 import free_port

PATIENCE = 30.0
"""Seconds after which something that a test waits for will not come."""


def pickled(model: Any, file: Path) -> Path:
    """A model as a pickle."""
    import joblib

    joblib.dump(model, file)
    return file


def held(folder: Path) -> Path:
    """A model that answers when it is released."""
    folder.mkdir(parents=True, exist_ok=True)
    return pickled(HeldModel(folder), folder / "held.pkl")


def iris() -> Any:
    """A fitted pipeline, which tells three classes by four numbers."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = load_iris(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels)


def iris_skops(file: Path) -> Path:
    """The pipeline, written by skops."""
    import skops.io

    skops.io.dump(iris(), file)
    return file


def iris_onnx(file: Path, **options: Any) -> Path:
    """
    The pipeline as ONNX.

    :param options: for the converter
    """
    import numpy as np
    from skl2onnx import to_onnx

    file.write_bytes(to_onnx(iris(), np.zeros((1, 4), np.float32), **options).SerializeToString())
    return file


@dataclass
class ModelServer:
    """A running server."""

    port: int
    pid: int
    log: Path
    client: httpx.Client = field(repr=False)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask; underscores in the names of headers are dashes."""
        return self.client.get(path, headers=_headers(headers))

    def infer(self, *inputs: dict[str, Any], path: str = "/v2/models/iris/infer", **more: Any) -> httpx.Response:
        """Ask for a prediction; ``more`` are further keys of the request."""
        return self.client.post(path, json={"inputs": list(inputs), **more})

    def exchange(self, *pieces: bytes, seconds: float = PATIENCE) -> bytes:
        """Send bytes as they are and read until the server closes the connection."""
        with self.connect(seconds) as connection:
            with suppress(ConnectionError):  # it may have answered and closed before all was sent
                for piece in pieces:
                    connection.sendall(piece)
            return read_all(connection)

    def connect(self, seconds: float = PATIENCE) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def measured(self, name: str) -> float:
        """The sum of a number in ``/metrics`` over all labels."""
        lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return sum(map(float, lines))


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or resets."""
    found = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def until(condition: Callable[[], bool]) -> None:
    """
    Wait for something.

    :raises TimeoutError: if it does not come
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come")
        time.sleep(0.01)


def exit_code(pid: int, seconds: float = PATIENCE) -> int:
    """
    The code with which a child ends.

    :raises TimeoutError: if it runs on
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    raise TimeoutError(f"process {pid} runs on")


def _headers(given: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


def tensor(rows: Sequence[Any], datatype: str = "FP64", name: str = "input") -> dict[str, Any]:
    """A tensor of a request, of one row after the other."""
    shape = [len(rows), len(rows[0])] if isinstance(rows[0], list) else [len(rows)]
    return {"name": name, "shape": shape, "datatype": datatype, "data": rows}


def server_environment(model: Path, port: int, **settings: Any) -> dict[str, str]:
    """The environment of a server; ``settings`` are named as in Settings."""
    given = {"model": model, "name": "iris", "version": "3", "digest": digest_path(model).digest, "port": port}
    given |= {"drain_seconds": 0, **settings}
    mine = {f"MLOPS_SERVE_{name.upper()}": str(value) for name, value in given.items()}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **mine}


COMMAND = (sys.executable, "-m", "airflow_mlops.serving.server")


@contextmanager
def running_server(model: Path, log: Path, **settings: Any) -> Iterator[ModelServer]:
    """
    A server that is ready.

    :param settings: named as in Settings
    :raises Unavailable: if it does not get ready
    """
    port = free_port()
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False)

    def ready() -> bool:
        try:
            identity = {"x-mlops-server": settings["id"]} if "id" in settings else {}
            return client.get("/v2/health/ready", headers=identity).status_code == 200
        except httpx.TransportError:
            return False

    environment = server_environment(model, port, **settings)
    pid = start_server(COMMAND, log, ready, seconds=60, env=environment)
    try:
        yield ModelServer(port, pid, log, client)
    finally:
        client.close()
        stop_server(pid)
