# SPDX-License-Identifier: Apache-2.0
"""
Which GPUs of a Docker host a step gets: those that no other running step of that host holds.

A lease is a label of the container that uses the devices, so it ends with the container, whoever dies before. There is no lock: a
container is created with its claim, then all claims are read; whoever sees that another one claims the same device gives up its own
and tries again. Both of two that overlap may give up, never neither: each reads after it has claimed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.docker_removal import remove_container
from airflow_mlops.operators.failures import CannotStart, InfrastructureFailure
from airflow_mlops.operators.identity import LABEL

if TYPE_CHECKING:
    from docker import APIClient

LEASE = f"{LABEL}.gpus"
POLL = 2.0
"""Seconds between two looks for devices that have become free."""

_HOLDING = ("created", "running", "paused", "restarting")


def leased(
    cli: APIClient,
    devices: Sequence[str],
    count: int,
    create: Callable[[list[str]], dict[str, Any]],
    *,
    task_id: str,
    wait: float,
    check: Callable[[], None],
    log: Any,
) -> dict[str, Any]:
    """
    Create a container that alone has some devices of its host.

    :param devices: ids of the host's devices
    :param count: how many are needed
    :param create: makes the container, labelled with :data:`LEASE`, for the ids it is given
    :param wait: seconds to wait until enough are free
    :param check: called before each further look; ends the wait by raising
    :raises CannotStart: if the host does not have as many
    :raises InfrastructureFailure: if they do not become free in time
    """
    if count > len(devices):
        raise CannotStart(
            f"step '{task_id}' asks for {count} GPUs (resources.gpu), and this host has {len(devices)} ([mlops] gpu_devices: {' '.join(devices)})"
        )
    end, told = time.monotonic() + wait, False
    while True:
        held = holders(cli)
        free = [device for device in devices if device not in held]
        if len(free) >= count:
            # Any of them: those who look at the same moment should not all want the first.
            wanted = sorted(random.sample(free, count), key=devices.index)  # noqa: S311 - no secret
            container = create(wanted)
            others = {
                device: holder for device, holder in holders(cli, but=container["Id"]).items() if device in wanted
            }
            if not others:
                log.info("This step has the GPUs %s", ", ".join(wanted))
                return container
            remove_container(cli, container["Id"])
            pause = random.uniform(0.05, 0.5)  # noqa: S311 - no secret
        else:
            pause = POLL
            if not told:
                told = True
                log.info(
                    "Waiting for %d of the GPUs %s, held by %s", count, " ".join(devices), sorted(set(held.values()))
                )
        if time.monotonic() > end:
            raise InfrastructureFailure(
                f"step '{task_id}': {count} of the GPUs {' '.join(devices)} did not become free within {wait:g} s ([mlops] gpu_wait); "
                f"they are held by {', '.join(sorted(set(held.values())))}; let an Airflow pool count the GPUs of a host, so that steps wait there"
            )
        check()
        time.sleep(pause)


def holders(cli: APIClient, but: str | None = None) -> dict[str, str]:
    """
    Devices that are leased, and the names of the containers that hold them, of whatever Airflow.

    :param but: id of a container that is left out
    """
    found: dict[str, str] = {}
    for container in cli.containers(all=True, filters={"label": LEASE, "status": list(_HOLDING)}):
        if container["Id"] != but:
            name = (container.get("Names") or [container["Id"]])[0].lstrip("/")
            found.update(dict.fromkeys(filter(None, container["Labels"][LEASE].split(",")), name))
    return found
