# SPDX-License-Identifier: Apache-2.0
"""
A process that outlives a task process which was told to stop its step.

Airflow kills a task process 5 s after the signal; a program may be given a longer grace. So the end of the program, and the removal
of what belongs to its attempt alone, is handed to a process of its own. It gets its order as JSON on standard input, and touches
nothing that has been committed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

TASK_PROCESS_PATIENCE = 60.0
"""Seconds that a task process may take to clean up by itself; one that lives on is left to do so."""


def reap(order: dict[str, Any]) -> None:
    """
    End a program and remove what is left of its attempt.

    :param order: ``docker`` with ``clients`` (and the certificates that those need), ``container`` and ``attempt``, or ``process`` with ``pid``
        and ``started``; ``grace`` in seconds; ``task_process``; the paths ``scratch``, ``folder`` and ``manifest``
    """
    cli = _end_container(order) if "docker" in order else None
    if "process" in order:
        _end_process(order["process"], order["grace"])
    if not _has_ended(int(order["task_process"]), TASK_PROCESS_PATIENCE):
        return
    if cli is not None:
        from airflow_mlops.operators.docker_removal import remove

        remove(cli, order["docker"]["container"], order["docker"]["attempt"])
    from airflow_mlops.artifacts.file_store import remove_tree
    from airflow_mlops.operators.scratch import remove_scratch

    remove_scratch(Path(order["scratch"]))
    manifest = order.get("manifest")
    if order.get("folder") and manifest and not Path(manifest).exists():
        with contextlib.suppress(OSError):
            remove_tree(Path(order["folder"]))


def _end_container(order: dict[str, Any]) -> Any:
    """Have the daemon stop the container; the grace is counted by the daemon."""
    import docker
    from docker.errors import DockerException, NotFound
    from requests.exceptions import RequestException

    from airflow_mlops.operators.docker_tls import Host

    for arguments in order["docker"]["clients"]:
        host, tls = arguments.pop("host", None), arguments.pop("tls", None)
        try:
            if host is not None:
                cli = Host(**host).connect(**arguments)
            else:
                cli = docker.APIClient(**arguments, tls=docker.tls.TLSConfig(**tls) if tls else False)
            with contextlib.suppress(NotFound):
                cli.stop(order["docker"]["container"], timeout=order["grace"])
        except (DockerException, RequestException, OSError):
            continue
        return cli
    return None


def _end_process(process: dict[str, Any], grace: float) -> None:
    """Kill a session when its grace is over, if it is still the one that was meant."""
    import psutil

    with contextlib.suppress(psutil.Error, ProcessLookupError):
        leader = psutil.Process(process["pid"])
        if abs(leader.create_time() - process["started"]) < 1:  # a number may be another process's by now
            with contextlib.suppress(psutil.TimeoutExpired):
                leader.wait(grace)
            os.killpg(process["pid"], signal.SIGKILL)


def _has_ended(pid: int, seconds: float) -> bool:
    import psutil

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.Error:
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    reap(json.load(sys.stdin))
