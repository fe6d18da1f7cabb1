# SPDX-License-Identifier: Apache-2.0
"""
``airflow standalone`` as a person starts it, in a folder of its own and on free ports, and its REST API.

Its end is the hard part: a SIGTERM leaves the scheduler, the API server, the DAG processor and the triggerer running, so every process of
its session is ended by id, and looked for once more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from tests.parts.airflow_home import airflow_settings
from tests.parts.images import ROOT
from tests.parts.processes import is_alive
from tests.parts.s3 import free_port

UP_SECONDS = 420
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
ENDED = ("success", "failed")
DAG_FILE = 'from airflow_mlops import pipeline_dag  # an Airflow DAG from a pipeline spec\n\ndag = pipeline_dag("pipeline.yaml")\n'

T = TypeVar("T")


class Refused(AssertionError):
    """
    A request that the API server refused.

    :param answer: what it said
    """

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:2000]}")
        self.status = answer.status_code
        self.text = answer.text


class Standalone:
    """
    A running ``airflow standalone``, whose every file lies in one folder.

    :param home: the folder, with a migrated database in it
    :param settings: further variables that it is started with
    """

    user = "admin"

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.settings = settings or {}
        self.dags = home / "dags"
        self.log = home / "standalone.log"
        self.calls = home / "calls"
        self.repository = home / "repository"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pid = 0
        self._client = httpx.Client(base_url=self.url, timeout=60)

    # Its life

    def environment(self) -> dict[str, str]:
        """The variables that it is started with."""
        return {
            **os.environ,
            **airflow_settings(self.home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=60",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            # Tasks call the API server, and would look for it at 8080.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(free_port()),
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            # New files are seen at once; a file that is known is parsed when a test asks for it, and each minute.
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__MLOPS__ENVIRONMENT": "dev",  # the examples' own, without containers
            "AIRFLOW__MLOPS__WORK_DIR": str(self.home / "work"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "tests" / "standalone" / "plugins"),
            "AIRFLOW__MLOPS__ALLOWED_CALLBACKS": "acme_alerts.*",
            "MLOPS_TEST_CALLS": str(self.calls),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(self._bundles()),
            # Where Airflow 3.1 has to ask its database for a connection, it forgets the bundles that it is just writing there.
            "AIRFLOW_CONN_REPOSITORY": json.dumps({"conn_type": "git", "host": str(self.repository)}),
            "PYTHONPATH": str(ROOT),
            # It starts its components by the name of the command.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **self.settings,
        }

    def _bundles(self) -> list[dict[str, Any]]:
        """The folder of DAGs, and a Git repository where Airflow's provider for Git is installed."""
        kwargs: dict[str, Any] = {"refresh_interval": 1}
        bundles = [("dags-folder", "airflow.dag_processing.bundles.local.LocalDagBundle", kwargs)]
        if has_git():
            kwargs = {"git_conn_id": "repository", "tracking_ref": "main", "refresh_interval": 2}
            bundles.append(("repository", "airflow.providers.git.bundles.git.GitDagBundle", kwargs))
        return [{"name": name, "classpath": path, "kwargs": kwargs} for name, path, kwargs in bundles]

    def commit(self, name: str, spec: str, code: Mapping[str, str] | None = None) -> str:
        """
        Put a pipeline into the Git repository, as :meth:`add` does into the folder of DAGs, in place of what is there.

        :return: the id of the commit
        """
        texts = {"pipeline.yaml": spec, **(code or {}), "pipeline_dag.py": DAG_FILE}
        for path, text in {f"{name}/{path}": text for path, text in texts.items()}.items():
            (self.repository / path).parent.mkdir(parents=True, exist_ok=True)
            (self.repository / path).write_text(text)
        self._git("add", "-A")
        self._git("commit", "--quiet", "--message", f"{name} as a test wants it")
        return self._git("rev-parse", "HEAD")

    def _git(self, *words: str) -> str:
        identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
        return subprocess.check_output(["git", *identity, *words], cwd=self.repository, text=True).strip()

    def make_repository(self) -> None:
        """Make the Git repository, which must have a commit before Airflow looks at it."""
        self.repository.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("commit", "--quiet", "--allow-empty", "--message", "empty")

    def start(self) -> None:
        """
        Start it, and wait until all of its components are well.

        :raises AssertionError: with the end of its log, if it does not come up
        """
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
                cwd=self.home,
                start_new_session=True,
            )
        self.pid = process.pid
        self.until(
            "an Airflow whose components are all well",
            lambda: process.poll() is not None or self._is_well(),
            UP_SECONDS,
        )
        assert process.returncode is None, f"airflow standalone ended with code {process.returncode}; {self._log_end()}"
        self._log_in()

    def _is_well(self) -> bool:
        try:
            answer = self._client.get("/api/v2/monitor/health", timeout=5)
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            return False
        states = answer.json()
        return all((states.get(name) or {}).get("status") == "healthy" for name in COMPONENTS)

    def stop(self) -> None:
        """
        End it, and all that it started.

        :raises AssertionError: if a process is left
        """
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGINT)
        psutil.wait_procs(family, timeout=5)
        self._end([*family, *self._family()])
        left = [process for process in {*family, *self._family()} if is_alive(process)]
        self._client.close()
        assert not left, f"still there after airflow standalone was stopped: {left}"

    def _family(self) -> list[psutil.Process]:
        """
        All processes that it started: those below it, and those of its session. The latter have it no longer as a parent when it is gone; the
        former hold tasks' programs, which have sessions of their own.
        """
        found: set[psutil.Process] = set()
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                if self.pid and os.getsid(process.pid) == self.pid:
                    found.update((process, *process.children(recursive=True)))
        return list(found)

    def _log_end(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        told = [line for line in lines if "[http.access]" not in line]
        return f"the end of {self.log}:\n" + "\n".join(told)[-6000:]

    @staticmethod
    def _end(processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(
                psutil.NoSuchProcess
            ):  # psutil knows by the start time that the id was given to another
                process.kill()
        psutil.wait_procs(processes, timeout=20)

    # Its REST API

    @property
    def password(self) -> str:
        """Of the one user, ``admin``, as Airflow has made it up."""
        file = self.home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(file.read_text())[self.user])

    def _log_in(self) -> None:
        answer = self.request("POST", "/auth/token", json={"username": self.user, "password": self.password})
        self._client.headers["Authorization"] = f"Bearer {answer['access_token']}"

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """
        Ask the API server; paths that do not begin with ``/`` are below ``/api/v2/``.

        :return: the JSON of its answer
        :raises Refused: if it answers with an error
        """
        answer = self._client.request(method, path if path.startswith("/") else f"/api/v2/{path}", **arguments)
        if answer.is_error:
            raise Refused(answer)
        return answer.json() if answer.content else None

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, params=query)

    # DAGs

    def add(self, name: str, spec: str, code: Mapping[str, str] | None = None, *, wait: bool = True) -> Path:
        """
        Drop a pipeline into the folder of DAGs: a spec, its step code, and the DAG file.

        :param name: of the pipeline and of its folder
        :param code: texts by path beside the spec
        :param wait: until Airflow knows the DAG, and let it run
        :return: the spec
        """
        folder = self.dags / name
        folder.mkdir()
        for path, text in {"pipeline.yaml": spec, **(code or {})}.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        (folder / "pipeline_dag.py").write_text(DAG_FILE)  # last: it may be parsed at once
        if wait:
            self.unpause(name)
        return folder / "pipeline.yaml"

    def unpause(self, dag: str) -> None:
        """Let a DAG run, as soon as Airflow knows it."""
        self.until(f"DAG {dag}", lambda: self.knows(dag) or self._error_of(dag))
        assert not (error := self._error_of(dag)), error
        self.request("PATCH", f"dags/{dag}", json={"is_paused": False})

    def knows(self, dag: str) -> bool:
        try:
            return not self.get(f"dags/{dag}")["is_stale"]
        except Refused as refused:
            if refused.status != 404:
                raise
            return False

    def parse(self, dag: str) -> None:
        """Have the file of a DAG parsed, as the button of the UI does, and wait for that."""
        before = self.parsed_at(dag)
        self.request("PUT", f"parseDagFile/{self.get(f'dags/{dag}')['file_token']}")
        self.until(f"parse of {dag}", lambda: self.parsed_at(dag) != before)

    def parsed_at(self, dag: str) -> tuple[Any, Any]:
        """When the file of a DAG was last parsed, well or badly."""
        errors = [error["timestamp"] for error in self.import_errors() if f"{dag}/" in error["filename"]]
        return self.get(f"dags/{dag}")["last_parsed_time"], errors

    def versions(self, dag: str) -> list[int]:
        """Numbers of the versions of a DAG."""
        return sorted(one["version_number"] for one in self.get(f"dags/{dag}/dagVersions")["dag_versions"])

    def _error_of(self, dag: str) -> str:
        """Why the file of a DAG cannot be imported, if it cannot."""
        return "\n".join(error["stack_trace"] for error in self.import_errors() if f"{dag}/" in error["filename"])

    def import_errors(self) -> list[dict[str, Any]]:
        return list(self.get("importErrors")["import_errors"])

    # Runs

    def trigger(self, dag: str, **params: Any) -> str:
        """
        Start a run.

        :return: its id
        :raises Refused: if Airflow refuses the params
        """
        body = {"logical_date": None, "conf": params}
        return str(self.request("POST", f"dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def wait(self, dag: str, run: str, seconds: float = 120) -> str:
        """
        Wait for the end of a run.

        :return: its state, ``success`` or ``failed``
        """

        def ended() -> str | None:
            state = str(self.get(f"dags/{dag}/dagRuns/{run}")["state"])
            return state if state in ENDED else None

        return self.until(f"end of {dag} {run}", ended, seconds)

    def tasks(self, dag: str, run: str) -> dict[str, str]:
        """States of a run's task instances."""
        found = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {one["task_id"]: one["state"] for one in found}

    def task(self, dag: str, run: str, task: str) -> dict[str, Any]:
        return dict(self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}"))

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value") -> Any:
        """What a task has handed on."""
        return self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}", deserialize=True)["value"]

    def task_log(self, dag: str, run: str, task: str, attempt: int = 1) -> list[dict[str, Any]]:
        """The log of one try, in the pieces that the UI shows: each with ``event`` and what else is known of it."""
        answer = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}", full_content=True)
        return [line if isinstance(line, dict) else {"event": line} for line in answer["content"]]

    def links(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """The extra links of a task instance, by the text of their buttons."""
        return dict(self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/links")["extra_links"])

    def clear(self, dag: str, run: str, *tasks: str) -> None:
        """Clear tasks of a run and what comes after them, as the UI does by default."""
        body = {
            "dry_run": False,
            "only_failed": False,
            "include_downstream": True,
            "dag_run_id": run,
            "task_ids": list(tasks),
        }
        self.request("POST", f"dags/{dag}/clearTaskInstances", json=body)

    def until(self, what: str, found: Callable[[], T | None], seconds: float = 120) -> T:
        """
        Ask until the answer is true.

        :return: the answer
        :raises AssertionError: with the end of Airflow's log, if it does not become true in time
        """
        deadline = time.monotonic() + seconds
        while not (answer := found()):
            assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s; {self._log_end()}"
            time.sleep(0.2)
        return answer


def has_git() -> bool:
    """Whether a bundle of DAGs may be a Git repository here."""
    return find_spec("airflow.providers.git") is not None and shutil.which("git") is not None


@pytest.fixture(scope="session")
def standalone(migrated_database: Path) -> Iterator[Standalone]:
    """A running Airflow of this test session, with no DAG in it; tests add theirs."""
    with running_airflow(migrated_database) as airflow:
        yield airflow


@contextlib.contextmanager
def running_airflow(database: Path, settings: Mapping[str, str] | None = None) -> Iterator[Standalone]:
    """
    A running Airflow for as long as the block lasts.

    :param database: a migrated one, to copy
    :param settings: further variables that it is started with
    """
    home = Path(mkdtemp(prefix="airflow-standalone-"))
    airflow = Standalone(home, settings)
    try:
        shutil.copyfile(database, home / "airflow.db")
        if has_git():
            airflow.make_repository()
        airflow.start()
        yield airflow
    finally:
        try:
            if airflow.pid:
                airflow.stop()
        finally:
            shutil.rmtree(home, ignore_errors=True)
