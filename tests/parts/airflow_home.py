# SPDX-License-Identifier: Apache-2.0
"""
An Airflow of the tests' own: a home that no user's Airflow sees, a migrated SQLite database, a folder of DAG files.

Airflow reads its settings when it is imported, so ``tests/conftest.py`` calls ``isolate_airflow`` before any test
module is loaded. The database is copied from a cached template, one a version of Airflow, since a migration takes 10 to
20 s.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from textwrap import dedent
from typing import Any

import psutil
import pytest

from tests.parts.cache import built, recipe_hash
from tests.parts.images import ROOT, run
from tests.parts.requirement import Unavailable, unavailable

RUNNER = Path(__file__).with_name("dag_test.py")
DAG_SECONDS = 600


def isolate_airflow() -> Path:
    """Point this process and its children to an empty Airflow home that is removed at exit; return it."""
    home = Path(mkdtemp(prefix="airflow-mlops-tests-"))
    atexit.register(_remove_in, os.getpid(), home)
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        del os.environ[name]  # a developer's own Airflow must not leak into the tests
    os.environ.update(airflow_settings(home))
    return home


def _remove_in(pid: int, home: Path) -> None:
    if os.getpid() == pid:  # a forked task must not take its parent's home away
        shutil.rmtree(home, ignore_errors=True)


def airflow_settings(home: Path) -> dict[str, str]:
    """Return the environment of an Airflow whose every file lies under ``home``."""
    (home / "dags").mkdir(parents=True, exist_ok=True)
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-the-tests-opens-nothing-else-" * 2,
        "AIRFLOW__MLOPS__STORE": f"file://{home}/store",
    }


def run_in_home(script: Path, home: Path, *arguments: str, seconds: float = 500) -> None:
    """
    Run a script that makes an Airflow of its own in a folder, in a process of its own, since Airflow reads its settings when it is imported.

    :param home: the script's first argument; its output goes to ``log`` there
    :raises AssertionError: with the end of its output, if it fails
    """
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), str(home), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            # Supervisors have process groups of their own; one that a failed script kept waiting would go on later.
            for left in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if str(home) in left.cmdline():
                        left.kill()
    if code:
        raise AssertionError((home / "log").read_text(errors="replace")[-6000:])


@dataclass
class DagResult:
    """What a run of a DAG left behind."""

    state: str
    """Of the run: ``success`` or ``failed``."""
    tasks: dict[str, str]
    """State by task id; a mapped task's instances are ``task_id[0]``, ``task_id[1]``, …"""
    xcoms: dict[str, Any]
    """The return value of each task that has one, by the same names."""
    run_id: str
    log: str = field(repr=False)
    """Everything that Airflow and the tasks printed."""


RunDag = Callable[..., DagResult]


@pytest.fixture(scope="session")
def migrated_database() -> Path:
    """An Airflow database with its tables and nothing in them, to copy."""
    try:
        version = importlib.metadata.version("apache-airflow-core")
    except importlib.metadata.PackageNotFoundError:
        unavailable("airflow", "apache-airflow is not installed; run: make .venv")
    try:
        return built(f"airflow-{version}-{recipe_hash([version, sys.version_info[:2]])}.db", _migrate)
    except Unavailable as reason:
        unavailable("airflow", reason)


@pytest.fixture(scope="session")
def airflow_home(migrated_database: Path) -> Path:
    """The Airflow home of this test session; its database fills with what tests do there."""
    home = Path(os.environ["AIRFLOW_HOME"])
    shutil.copyfile(migrated_database, home / "airflow.db")
    return home


def _migrate(scratch: Path) -> Path:
    environment = {**os.environ, **airflow_settings(scratch)}
    run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, cwd=scratch)
    return scratch / "airflow.db"


def run_dag_file(
    file: Path, answer: Path, environment: Mapping[str, str], conf: Mapping[str, Any] | None = None
) -> DagResult:
    """
    Run one DAG file as ``dag.test()`` does, in a process of its own.

    :param file: defines ``dag``, and lies in a bundle that the environment configures
    :param answer: where the process writes what came of it
    :raises AssertionError: with the end of its log, if it did not run
    """
    done = subprocess.run(
        # -P: the folder of the runner holds modules that are called like packages it needs.
        [sys.executable, "-P", str(RUNNER), str(file), json.dumps(conf or {}), str(answer)],
        env=environment,
        cwd=file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DAG_SECONDS,
        check=False,
    )
    if not answer.exists():
        raise AssertionError(f"the DAG did not run (code {done.returncode}):\n{done.stdout[-8000:]}")
    return DagResult(**json.loads(answer.read_text()), log=done.stdout)


@pytest.fixture
def run_dag(airflow_home: Path, migrated_database: Path, tmp_path: Path) -> RunDag:
    """
    Run DAG files as ``dag.test()`` does, each in a process of its own.

    ``run_dag(text, conf=None, env=None, beside=None) -> DagResult``: ``text`` is a DAG file that defines ``dag``;
    ``beside`` maps names of further files in its folder to their text; ``env`` adds environment variables. A file that
    cannot be run raises AssertionError with its log.
    """
    return _runner(migrated_database, tmp_path)


@pytest.fixture(scope="module")
def run_dag_once(airflow_home: Path, migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDag:
    """The same for fixtures of a module, whose tests look at one run from several sides."""
    return _runner(migrated_database, tmp_path_factory.mktemp("once"))


def _runner(migrated_database: Path, folder: Path) -> RunDag:
    def run_file(
        text: str,
        conf: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        beside: Mapping[str, str] | None = None,
    ) -> DagResult:
        # The file must lie in a configured bundle, or Airflow says that the DAG is not serialized; alone
        # there, so that no other is parsed.
        dags = Path(mkdtemp(prefix="dags-", dir=folder))
        for name, content in {"dag_under_test.py": dedent(text), **(beside or {})}.items():
            (dags / name).parent.mkdir(parents=True, exist_ok=True)
            (dags / name).write_text(content)
        # A database of its own: tests give one DAG id to one DAG after the other, and Airflow 3.1 goes on with the first.
        database = folder / f"{dags.name}.db"
        shutil.copyfile(migrated_database, database)
        environment = {
            **os.environ,
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{dags}",
            **(env or {}),
        }
        return run_dag_file(dags / "dag_under_test.py", folder / f"{dags.name}.json", environment, conf)

    return run_file
