# SPDX-License-Identifier: Apache-2.0
"""
A real MLflow server on the loopback interface, over SQLite and a folder.

MLflow and Airflow do not agree on the versions of what both need, so it has an environment of its own, made once from a lock file.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.parts.cache import built, recipe_hash
from tests.parts.images import run, uv_command
from tests.parts.processes import start_server, stop_server
from tests.parts.requirement import Unavailable, unavailable
from tests.parts.s3 import free_port

LOCK = Path(__file__).resolve().parents[1] / "locks" / "mlflow.txt"


@dataclass(frozen=True)
class MlflowServer:
    """A running server."""

    url: str
    folder: Path
    pid: int

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.folder / "mlflow.db"

    def warm_up(self) -> None:
        """Have it import what it needs for a run."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.url, self.url)
        run = client.create_run(client.create_experiment("warm"))
        client.log_metric(run.info.run_id, "x", 1)
        client.search_runs([run.info.experiment_id])

    def forget_models(self) -> None:
        """Delete all registered models, so that their versions are counted from 1 again."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.url, self.url)
        for model in client.search_registered_models(max_results=1000):
            client.delete_registered_model(model.name)


def server_environment() -> Path:
    """Return the folder of the server's environment, made first if there is none; about a minute."""
    lock = LOCK.read_text(encoding="utf-8")

    def build(scratch: Path) -> Path:
        folder = scratch / "venv"
        run([uv_command(), "venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder)])
        python = str(folder / "bin" / "python")
        run([uv_command(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "-r", str(LOCK)])
        return folder

    return built(f"mlflow-{recipe_hash([lock, sys.version])}", build)


@contextmanager
def running_mlflow(folder: Path) -> Iterator[MlflowServer]:
    """
    A server of one process.

    :param folder: an empty one
    :raises Unavailable: if it cannot be had
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    python = server_environment() / "bin" / "python"
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    pid = start_server(command, folder / "server.log", answers, seconds=120)
    try:
        server = MlflowServer(url, folder, pid)
        server.warm_up()
        yield server
    finally:
        stop_server(pid)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running MLflow server that no other session uses."""
    try:
        import mlflow  # noqa: F401
    except ImportError:
        unavailable("mlflow", "its client is not installed; run: pip install 'airflow-provider-mlops[mlflow]'")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_mlflow(tmp_path_factory.mktemp("mlflow")))
        except (Unavailable, subprocess.SubprocessError) as reason:
            unavailable("mlflow", reason)
        yield server


@pytest.fixture
def empty_mlflow(mlflow_server: MlflowServer) -> MlflowServer:
    """The server, without any registered model."""
    mlflow_server.forget_models()
    return mlflow_server
