# SPDX-License-Identifier: Apache-2.0
"""
Leases of GPUs on a real daemon, by many steps at once.

The devices are names alone: the containers carry the leases and no device request, since no host of these tests has a GPU.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import pytest

pytest.importorskip("airflow")

from airflow_mlops.operators import docker_gpus
from airflow_mlops.operators.docker_gpus import LEASE, holders, leased
from airflow_mlops.operators.docker_removal import remove_container
from airflow_mlops.operators.failures import CannotStart, InfrastructureFailure

pytestmark = [pytest.mark.docker, pytest.mark.airflow]

LOG = logging.getLogger("test")


class Host:
    """A daemon with devices that are names."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cli = self.client()
        self.made: list[str] = []

    def client(self) -> Any:
        return docker.APIClient(self.url, version="auto")

    def lease(self, devices: list[str], count: int, wait: float = 30) -> dict[str, Any]:
        cli = self.client()

        def create(gpus: list[str]) -> dict[str, Any]:
            container: dict[str, Any] = cli.create_container(
                "mlops-busybox:1", ["sleep", "60"], labels={LEASE: ",".join(gpus)}
            )
            self.made.append(container["Id"])
            return container

        return leased(cli, devices, count, create, task_id="fit", wait=wait, check=lambda: None, log=LOG)

    def leases(self, container: dict[str, Any]) -> list[str]:
        labels = self.cli.inspect_container(container["Id"])["Config"]["Labels"]
        return str(labels[LEASE]).split(",")


@pytest.fixture
def host(docker_daemon: str, busybox_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(docker_gpus, "POLL", 0.1)
    host = Host(docker_daemon)
    yield host
    for container in host.made:
        remove_container(host.cli, container)


def test_steps_at_the_same_time_never_share_a_device(host: Host) -> None:
    devices = [f"gpu-{number}" for number in range(4)]
    lock, held = threading.Lock(), dict.fromkeys(devices, 0)
    shared: list[str] = []

    def step(_: int) -> None:
        container = host.lease(devices, 2)
        mine = host.leases(container)
        with lock:
            for device in mine:
                held[device] += 1
                if held[device] > 1:
                    shared.append(device)
        host.cli.start(container["Id"])
        with lock:
            for device in mine:
                held[device] -= 1
        remove_container(host.client(), container["Id"])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(step, range(18)))
    assert shared == []
    assert holders(host.cli) == {}


def test_a_device_is_free_when_its_container_has_ended(host: Host) -> None:
    first = host.lease(["0"], 1)
    host.cli.start(first["Id"])
    with pytest.raises(InfrastructureFailure, match=r"did not become free .* held by .*; let an Airflow pool"):
        host.lease(["0"], 1, wait=0.3)
    host.cli.kill(first["Id"])
    began = time.monotonic()
    assert host.leases(host.lease(["0"], 1)) == ["0"]
    assert time.monotonic() - began < 10


def test_more_than_the_host_has_is_refused_at_once(host: Host) -> None:
    with pytest.raises(CannotStart, match=r"asks for 3 GPUs .* this host has 2 \(\[mlops\] gpu_devices: 0 1\)"):
        host.lease(["0", "1"], 3)


def test_an_overlap_that_is_seen_afterwards_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another one claims the device between our look and our claim: a first look that sees nothing stands for that moment.
    other = host.cli.create_container("mlops-busybox:1", ["true"], labels={LEASE: "0"})
    host.made.append(other["Id"])
    looked: list[str | None] = []

    def look(cli: Any, but: str | None = None) -> dict[str, str]:
        looked.append(but)
        return {} if len(looked) == 1 else holders(cli, but)

    monkeypatch.setattr(docker_gpus, "holders", look)
    with pytest.raises(InfrastructureFailure):
        host.lease(["0"], 1, wait=0.2)
    assert looked[1] == host.made[1]
    assert list(holders(host.cli)) == ["0"]
    assert [one for one in host.made[1:] if host.cli.containers(all=True, filters={"id": one})] == []
