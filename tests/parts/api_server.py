# SPDX-License-Identifier: Apache-2.0
"""
Airflow's API server as a process of its own, below a sub-path, with Airflow's simple login and users of each kind.

Runs are made by ``dag.test()`` into the same database, so no scheduler is needed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx

from tests.parts.airflow_home import DagResult, airflow_settings, run_dag_file
from tests.parts.images import ROOT
from tests.parts.processes import start_server, stop_server
from tests.parts.requirement import unavailable
from tests.parts.s3 import free_port

UP_SECONDS = 180
USERS = {"admin": "admin", "viewer": "viewer", "nobody": ""}
"""Role by user; without one, a user may do nothing but log in."""


class ApiServer:
    """
    An API server.

    :param home: its folder, made by :meth:`start`; steps may import from ``outside`` there
    :param settings: further environment variables, for it and for the runs
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._settings = dict(settings or {})
        self.root = f"http://127.0.0.1:{free_port()}/airflow"
        self.store = home / "store"
        self.outside = home / "outside"
        self.log = home / "api-server.log"
        self._pid = 0
        self._tokens: dict[str, str] = {}

    def start(self, database: Path) -> None:
        """
        Start it.

        :param database: a migrated one, which is copied
        """
        if not importlib.metadata.entry_points(group="airflow.plugins", name="mlops"):
            unavailable("airflow", "this package is not installed with its entry points; run: make .venv")
        self.outside.mkdir(parents=True)
        shutil.copyfile(database, self.home / "airflow.db")
        command = [sys.executable, "-P", "-m", "airflow", "api-server", "--host", "127.0.0.1", "--workers", "1"]
        port = self.root.split(":")[2].partition("/")[0]
        self._pid = start_server(
            [*command, "--port", port], self.log, self._answers, seconds=UP_SECONDS, env=self._environment()
        )

    def stop(self) -> None:
        """End it."""
        stop_server(self._pid)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **airflow_settings(self.home),
            "AIRFLOW__API__BASE_URL": self.root,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(self.outside),
            "PYTHONPATH": str(ROOT),
            **self._settings,
        }

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.root}/api/v2/monitor/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def run(self, text: str) -> DagResult:
        """Run a DAG file that defines ``dag``; its tasks may fail."""
        file = self.home / "dags" / "dag_under_test.py"
        file.write_text(dedent(text))
        answer = self.home / "answer.json"
        answer.unlink(missing_ok=True)
        return run_dag_file(file, answer, self._environment())

    def get(self, path: str, user: str | None = "admin", **arguments: Any) -> httpx.Response:
        """
        Ask for a path below the root.

        :param user: who asks; ``None`` for nobody
        """
        headers = {"Authorization": f"Bearer {self.token(user)}"} if user is not None else {}
        return httpx.get(f"{self.root}/{path}", headers=headers, timeout=60, **arguments)

    def token(self, user: str) -> str:
        """What a user has after logging in."""
        if user not in self._tokens:
            file = self.home / "simple_auth_manager_passwords.json.generated"
            password = json.loads(file.read_text())[user]
            answer = httpx.post(
                f"{self.root}/auth/token", json={"username": user, "password": password}, timeout=60
            ).raise_for_status()
            self._tokens[user] = answer.json()["access_token"]
        return self._tokens[user]
