# SPDX-License-Identifier: Apache-2.0
"""
A real Docker daemon: the one that answers, or as root one of our own, shared by all test sessions of the machine.

Our own daemon keeps its data in the cache folder, so that images loaded once stay loaded. Sessions that use it hold a
shared lock; the last one that leaves stops it, by process id, unless ``python -m tests.parts up`` started it for a
person.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.parts.cache import cache_folder, locked
from tests.parts.processes import start_server, stop_server
from tests.parts.requirement import Unavailable, unavailable

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


def docker_url() -> str:
    """Return the address of the daemon that Docker's own tools would talk to."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET


def answers(url: str) -> bool:
    """Ask a daemon once whether it is there."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.DockerClient(base_url=url, timeout=5, version="auto")
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


INSTANCE_OF_PODS = "pods"
"""Name of the Airflow of those tests whose pods have a container beside them; they may run at the same time as the tests of containers."""


def things_of_steps() -> set[str]:
    """Ids of the containers and names of the volumes of steps that are on the daemon."""
    label = ["--filter", "label=mlops.managed=true"]
    listings = ["docker", "ps", "-aq", *label], ["docker", "volume", "ls", "-q", *label]
    others = ["docker", "ps", "-aq", "--filter", f"label=mlops.instance={INSTANCE_OF_PODS}"]
    found = {word for command in listings for word in subprocess.check_output(command, text=True).split()}
    return found - set(subprocess.check_output(others, text=True).split())


_OF_OTHERS: set[str] = set()
"""What was on the daemon before the tests of a module."""


def containers() -> list[str]:
    """Containers and volumes of steps that came to be since the tests of this module began, containers first."""
    return sorted(things_of_steps() - _OF_OTHERS, key=lambda name: name.startswith("mlops-"))


def remove_steps(url: str) -> None:
    """Remove what a test session that was killed has left on our own daemon, which nobody uses yet."""
    import docker

    client = docker.DockerClient(base_url=url, version="auto")
    filters = {"label": "mlops.managed=true"}
    try:
        for container in client.containers.list(all=True, filters=filters):
            container.remove(force=True)
        for volume in client.volumes.list(filters=filters):
            volume.remove(force=True)
    finally:
        client.close()


class OwnDaemon:
    """The daemon that tests start where there is none."""

    def __init__(self) -> None:
        self.folder = cache_folder() / "docker"
        self.folder.mkdir(exist_ok=True)
        self.pidfile = self.folder / "dockerd.pid"
        self.ours = self.folder / "started-by-tests"

    def start(self, *, keep: bool) -> str:
        """
        Start the daemon on the default socket and return its address.

        :param keep: leave it running when the last test session ends
        :raises Unavailable: not root, a program is missing, or the daemon does not come up
        """
        if os.geteuid() != 0:
            raise Unavailable(
                f"no Docker daemon answers at {docker_url()} and only root can start one; "
                "start Docker or set DOCKER_HOST"
            )
        if lacking := [name for name in ("dockerd", "iptables") if shutil.which(name) is None]:
            raise Unavailable(f"{' and '.join(lacking)} not found; run: apt-get install -y docker.io iptables")
        self._drop_stale_pid()
        self.ours.unlink(missing_ok=True)
        command = ["dockerd", "--host", DEFAULT_SOCKET, "--pidfile", str(self.pidfile)]
        command += ["--data-root", str(self.folder / "data"), "--exec-root", "/var/run/airflow-mlops-tests-docker"]
        start_server(command, self.folder / "dockerd.log", lambda: answers(DEFAULT_SOCKET), seconds=60)
        remove_steps(DEFAULT_SOCKET)
        if not keep:
            self.ours.touch()
        return DEFAULT_SOCKET

    def stop(self) -> None:
        """Stop the daemon if a test session started it; one that somebody else started is left alone."""
        if self.ours.exists():
            self.stop_any()

    def stop_any(self) -> None:
        """Stop the daemon whose data is in the cache folder, whoever started it."""
        self._drop_stale_pid()
        if self.pidfile.exists():
            stop_server(int(self.pidfile.read_text()))
        self.ours.unlink(missing_ok=True)

    def _drop_stale_pid(self) -> None:
        # After a crash the id may be another process's: it must not be stopped, and dockerd would refuse to start.
        if self.pidfile.exists():
            name = Path(f"/proc/{int(self.pidfile.read_text())}/comm")
            if not name.exists() or name.read_text().strip() != "dockerd":
                self.pidfile.unlink()


@contextmanager
def docker_session(*, keep: bool = False) -> Iterator[str]:
    """
    Give the address of a daemon that answers, started if need be, for as long as the block lasts.

    :param keep: a daemon that is started here runs on afterwards
    :raises Unavailable: there is none and none can be started
    """
    with (cache_folder() / "docker-users.lock").open("w") as users:
        with locked("docker"):
            url = docker_url()
            if not answers(url):
                if "DOCKER_HOST" in os.environ:
                    raise Unavailable(f"no Docker daemon answers at DOCKER_HOST={url}; start it, or unset DOCKER_HOST")
                url = OwnDaemon().start(keep=keep)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield url
        finally:
            with locked("docker"):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # another session still uses it and will stop it
                else:
                    OwnDaemon().stop()


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[str]:
    """Address of a Docker daemon that answers; ``DOCKER_HOST`` says the same to child processes."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(docker_session())
        except Unavailable as reason:
            unavailable("docker", reason)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("DOCKER_HOST", url)
        yield url


@pytest.fixture(scope="module", autouse=True)
def others_containers(request: pytest.FixtureRequest) -> None:
    """Before a module with tests that need Docker: what is there already is not theirs, and they do not look at it."""
    mine = [item for item in request.session.items if item.path == request.path]
    if any("docker_daemon" in getattr(item, "fixturenames", ()) for item in mine):
        request.getfixturevalue("docker_daemon")
        _OF_OTHERS.clear()
        _OF_OTHERS.update(things_of_steps())
