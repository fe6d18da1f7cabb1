# SPDX-License-Identifier: Apache-2.0
"""The Docker daemon that commands talk to: the one that Docker's own tools would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient

SOCKET = "unix:///var/run/docker.sock"
"""Where a daemon listens unless ``DOCKER_HOST`` names another one."""


def docker_url() -> str | None:
    """Address of the daemon; ``None`` where nothing says that there is one."""
    chosen = os.environ.get("DOCKER_HOST")
    return chosen or (SOCKET if Path(SOCKET.removeprefix("unix://")).exists() else None)


def connect(url: str, seconds: float) -> APIClient:
    """
    Connect to a daemon.

    :param seconds: for one answer
    :raises docker.errors.DockerException: if it does not answer
    """
    import docker

    options = docker.utils.kwargs_from_env() | {"base_url": url}
    return docker.APIClient(**options, version="auto", timeout=seconds)
