# SPDX-License-Identifier: Apache-2.0
"""
An executor that forks one supervisor a task and lets it talk to the execution API in its own process.

Airflow imports it by name (``[core] executor``). It reports what LocalExecutor reports: success when the supervisor
came to its end, whatever became of the task, and failure when it did not. That difference decides what a clear of a
running task leaves in the database, so it is part of what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from airflow.executors.base_executor import BaseExecutor

_FORK = multiprocessing.get_context("fork")
_warm: dict[str, Any] = {}


def warm_up() -> None:
    """Build the execution API and its routes once, so that no fork pays for them. Must run before any thread exists."""
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.api_fastapi.execution_api.versions import bundle

    api = InProcessExecutionAPI()

    async def ping() -> None:
        transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://in-process") as client:
            await client.get("/health/ping", headers={"Airflow-API-Version": str(bundle.versions[0].value)})

    asyncio.run(ping())
    _warm["api"] = api


class _Network(httpx.BaseTransport):
    """
    The way to the execution API, which the experiment can block.

    The real transport starts a thread, so it is made at the first request: by then the supervisor has forked its task.
    """

    def __init__(self, dag_id: str) -> None:
        home = Path(os.environ["STATE_MODEL_HOME"])
        self.hold, self.held = home / f"hold-{dag_id}", home / f"held-{dag_id}"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with contextlib.suppress(FileNotFoundError):
            while request.url.path.endswith(self.hold.read_text()):
                self.held.write_text(str(os.getpid()))
                time.sleep(0.02)
        response: httpx.Response = _warm["api"].transport.handle_request(request)
        return response


def _supervise(workload: Any) -> None:
    from airflow.sdk.api.client import Client
    from airflow.sdk.execution_time import supervisor

    os.setpgid(0, 0)
    client = Client(base_url=None, token="", dry_run=True, transport=_Network(workload.ti.dag_id))
    client.base_url = httpx.URL("http://in-process.invalid./")
    supervise = getattr(supervisor, "supervise_task", None) or supervisor.supervise
    supervise(
        ti=workload.ti,
        bundle_info=workload.bundle_info,
        dag_rel_path=workload.dag_rel_path,
        token="",
        log_path=workload.log_path,
        client=client,
    )
    sys.exit(0)


class ForkExecutor(BaseExecutor):
    """Runs tasks on this machine; see the module's docstring for what it reports."""

    is_local = True

    def start(self) -> None:
        self.supervisors: dict[Any, Any] = {}
        self.reported: list[Any] = []

    def _process_workloads(self, workloads: Any) -> None:
        for workload in workloads:
            self.queued_tasks.pop(workload.ti.key)
            process = _FORK.Process(target=_supervise, args=(workload,))
            process.start()
            self.supervisors[workload.ti.key] = process

    def sync(self) -> None:
        with (Path(os.environ["STATE_MODEL_HOME"]) / "settled").open("a") as file:
            for key in self.reported:  # in the last round; the scheduler has dealt with it since
                file.write(f"{key.dag_id} {key.task_id} {key.map_index} {key.try_number}\n")
        self.reported.clear()
        if self.supervisors:
            multiprocessing.connection.wait([p.sentinel for p in self.supervisors.values()], 0.1)
        else:
            time.sleep(0.02)
        for key, process in list(self.supervisors.items()):
            if not process.is_alive():
                del self.supervisors[key]
                self.reported.append(key)
                (self.success if process.exitcode == 0 else self.fail)(key)

    def end(self) -> None:
        for process in self.supervisors.values():
            process.kill()

    def terminate(self) -> None:
        self.end()
