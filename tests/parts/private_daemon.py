# SPDX-License-Identifier: Apache-2.0
"""
A Docker daemon that a test may do anything to: restart it, kill it, fill its disk.

It has a network namespace of its own, so that it takes nothing from the daemon that the other tests share, and a small disk in memory.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import docker
import psutil
import pytest

from tests.parts.docker import answers
from tests.parts.processes import is_running, mounts_below, start_server, stop_server
from tests.parts.requirement import Unavailable, unavailable

SIZE = "48m"
"""Of its disk. The tests' image takes 5 MB of it, and as much again for each container."""


CONFIG = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{address}"
"""


Daemon = TypeVar("Daemon", bound="PrivateDaemon")


class PrivateDaemon:
    """
    A daemon in a folder.

    :param folder: a new one, with a short path
    """

    bridge = "none"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.url = f"unix://{folder}/s"
        self.address = f"{folder}/c"
        self.pid = self.containerd = 0

    def start(self, *options: str) -> None:
        """
        Start it, or start it again with what it has on its disk.

        :raises Unavailable: if it does not come up
        """
        if not self.containerd:
            self._start_containerd()
        (self.folder / "pid").unlink(missing_ok=True)
        command = [*self.network(), "dockerd", "--bridge", self.bridge, "--iptables=false", "--storage-driver", "vfs"]
        command += [
            "--host",
            self.url,
            "--containerd",
            self.address,
            "--pidfile",
            f"{self.folder}/pid",
            "--exec-root",
            f"{self.folder}/exec",
        ]
        command += ["--data-root", str(self.data), *options]
        self.pid = start_server(command, self.folder / "log", lambda: answers(self.url), seconds=60)

    def network(self) -> list[str]:
        """What it is started with: a network of its own."""
        return ["unshare", "--net"]

    def _start_containerd(self) -> None:
        """As on a host with an init system it is a service of its own, which survives the daemon."""
        config = self.folder / "containerd.toml"
        config.write_text(
            CONFIG.format(root=self.data / "containerd", state=self.folder / "state", address=self.address)
        )
        command = ["containerd", "--config", str(config)]
        address = Path(self.address)
        self.containerd = start_server(command, self.folder / "containerd.log", address.exists, seconds=60)

    def close(self) -> None:
        """End it, and what it needs."""
        self.stop()
        if self.containerd:
            stop_server(self.containerd)
        # A shim outlives both; its command line names the folder, which is this daemon's alone.
        for process in psutil.process_iter(["cmdline"]):
            if f"{self.folder}/" in " ".join(process.info["cmdline"] or ()):
                process.kill()

    def stop(self) -> None:
        """End it as an init system does."""
        if self.pid:
            stop_server(self.pid)

    def kill(self) -> None:
        """End it as the kernel does that is out of memory."""
        os.kill(self.pid, signal.SIGKILL)
        while is_running(self.pid):
            pass

    def containers(self) -> list[str]:
        """Ids of all containers, and names of all volumes."""
        cli = docker.APIClient(self.url, version="auto")
        try:
            volumes = cli.volumes()["Volumes"] or ()
            return [one["Id"] for one in cli.containers(all=True)] + [volume["Name"] for volume in volumes]
        finally:
            cli.close()

    def free(self) -> int:
        """Bytes that its disk has left."""
        return shutil.disk_usage(self.data).free


@pytest.fixture
def private_daemon(
    docker_daemon: str, busybox_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateDaemon]:
    """A daemon of the test's own, which has the busybox image."""
    with running(PrivateDaemon) as daemon:
        yield daemon


@contextmanager
def running(kind: type[Daemon]) -> Iterator[Daemon]:
    """A daemon that has the busybox image, for as long as the block lasts."""
    folder = Path(f"/tmp/mlops-tests-{os.getpid()}-{os.urandom(2).hex()}")  # the path of a socket must be short
    daemon = kind(folder)
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        unavailable("docker", "only root can start a Docker daemon of its own, and dockerd must be installed")
    daemon.data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(daemon.data)], check=True)
    try:
        daemon.start()
        image = folder / "image.tar"
        subprocess.run(["docker", "save", "-o", str(image), "mlops-busybox:1"], check=True)
        subprocess.run(
            ["docker", "--host", daemon.url, "load", "-q", "-i", str(image)], check=True, capture_output=True
        )
        yield daemon
    except Unavailable as reason:
        unavailable("docker", reason)
    finally:
        daemon.close()
        for mount in mounts_below(folder):
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(folder)
