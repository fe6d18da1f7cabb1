# SPDX-License-Identifier: Apache-2.0
"""
``clean --deployment`` removes what crashes left, and nothing else.

The states are those of a real run in a real database, the containers and volumes a real daemon's. What a crash leaves is laid out by hand, with
the labels and folders that the operators give it; ``tests/operators/test_container_lives.py`` has a real crash.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts import Store, Try, find_committed, instance_id
from airflow_mlops.artifacts.attempts import KEPT
from airflow_mlops.operators.attempt import Attempt
from airflow_mlops.operators.identity import TaskIdentity
from airflow_mlops.operators.settings import Settings
from tests.cli.support import PATIENCE, ROOT, Said
from tests.parts.docker import containers

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

DAG = """
from airflow.sdk import DAG
from airflow_mlops.operators import ProcessContainerOperator
with DAG("tidy", schedule=None) as dag:
    for name, script in {"good": "echo 1 > $MLOPS_OUTPUT_DATA", "bad": "exit 3", "late": "exit 3"}.items():
        ProcessContainerOperator(task_id=name, command=["sh", "-c", script], outputs={"data": "dataset"})
"""
RUNS_ON = "trap 'touch /x/asked; exit' TERM; sleep 600 & wait"


@dataclass
class Deployment:
    """An Airflow with one run: ``good`` succeeded, ``bad`` failed, ``late`` runs still as far as Airflow knows."""

    folder: Path
    run: str
    debris: list[Attempt] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        (database,) = self.folder.glob("dags-*.db")
        return {
            **os.environ,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
            "AIRFLOW__MLOPS__STORE": self.store.url,
            "AIRFLOW__MLOPS__WORK_DIR": str(self.folder / "work"),
            "PYTHONPATH": str(ROOT),
        }

    @property
    def store(self) -> Store:
        return Store.open((self.folder / "store").as_uri())

    def clean(self, *words: str, **environment: str) -> Said:
        """Run ``clean --deployment``."""
        command = [sys.executable, "-m", "airflow_mlops", "clean", "--deployment", *words]
        done = subprocess.run(
            command, check=False, env=self.environment | environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert "Traceback" not in done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def sql(self, statement: str, *values: object) -> None:
        (database,) = self.folder.glob("dags-*.db")
        with sqlite3.connect(database) as connection:
            connection.execute(statement, values)
        connection.close()

    def attempt(self, task: str, run: str | None = None, instance: str | None = None) -> Attempt:
        """The folders of an attempt whose worker died."""
        current = Try(id="0199-x", map_index=-1, try_number=1, max_tries=1, retries=0, clears=0, run_started=0.0)
        identity = TaskIdentity(instance or instance_id(self.store, None), "tidy", run or self.run, task, current)
        settings = Settings(store_url=self.store.url, work_dir=self.folder / "work")
        made = Attempt.plan(identity, self.store, settings, os.urandom(6).hex())
        made.make()
        (made.outputs / "data").write_text("half")
        self.debris.append(made)
        return made

    def clear_meanwhile(self, patch: pytest.MonkeyPatch) -> int:
        """
        Run ``clean --deployment --yes`` in this process, with a stand-in for the answers of the database: a clear of ``bad`` between its two
        questions cannot be made to happen on command.

        :return: its exit code
        """
        from airflow_mlops.cli import deployment as module
        from airflow_mlops.cli.task_states import Task, TaskState

        for name, value in self.environment.items():
            patch.setenv(name, value)
        task, asked = Task("tidy", self.run, "bad", -1), []

        def answer(tasks: object) -> dict[Task, TaskState]:
            asked.append(tasks)
            moment = datetime(2026, 1, 1, tzinfo=UTC) if len(asked) == 1 else None
            return {task: TaskState("failed" if moment else "queued", moment)}

        patch.setattr(module, "ask_airflow", answer)
        return module.clean_deployment(module.Request(module.DEFAULT_AGE, (), None, False), remove=True)

    def crash(self, task: str, *, run: str | None = None, instance: str | None = None, script: str = "true") -> Debris:
        """What a worker leaves that dies while the container of a step runs, or has ended."""
        attempt = self.attempt(task, run, instance)
        labels = [
            word
            for name, value in attempt.identity.labels(attempt.id).items()
            for word in ("--label", f"{name}={value}")
        ]
        volume = docker("volume", "create", *labels, f"mlops-{attempt.id}")
        container = docker(
            "create",
            *labels,
            "--name",
            f"mlops-{attempt.id}",
            "-v",
            f"{volume}:/x",
            "mlops-busybox:1",
            "sh",
            "-c",
            script,
        )
        docker("start", container)
        if script == "true":
            docker("wait", container)
        return Debris(attempt, container, volume)


@dataclass
class Debris:
    """What lies around of one attempt."""

    attempt: Attempt
    container: str
    volume: str

    @property
    def there(self) -> dict[str, bool]:
        """What of it is still there."""
        present = containers()
        return {
            "container": any(self.container.startswith(one) for one in present),
            "volume": self.volume in present,
            "scratch": self.attempt.workspace.exists(),
            "attempt": self.attempt.store.exists(self.attempt.key),
        }

    @property
    def is_whole(self) -> bool:
        return all(self.there.values())

    @property
    def is_gone(self) -> bool:
        return not any(self.there.values())


def docker(*words: str) -> str:
    return subprocess.check_output(["docker", *words], text=True, stderr=subprocess.PIPE).strip()


_RUN: list[Deployment] = []
"""The one run, which all tests share."""


@pytest.fixture
def deployment(run_dag: RunDag, tmp_path: Path, docker_daemon: str, busybox_image: str) -> Iterator[Deployment]:
    if not _RUN:
        settings = {"STORE": f"file://{tmp_path}/store", "WORK_DIR": f"{tmp_path}/work"}
        result = run_dag(DAG, env={f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()})
        assert result.tasks == {"good": "success", "bad": "failed", "late": "failed"}, result.log
        _RUN.append(Deployment(tmp_path, result.run_id))
    made = _RUN[0]
    made.sql("update task_instance set end_date = ?, updated_at = ?", *["2026-01-01 00:00:00.000000"] * 2)
    made.sql("update task_instance set state = 'running', end_date = null where task_id = 'late'")
    try:
        yield made
    finally:
        for identifier in containers():
            # A name of a volume, or the id of a container.
            kind = ["volume", "rm"] if identifier.startswith("mlops-") else ["rm", "-f"]
            subprocess.run(["docker", *kind, identifier], check=False, capture_output=True)
        shutil.rmtree(made.folder / "work", ignore_errors=True)
        for attempt in made.debris:
            attempt.store.delete_tree(attempt.key)
        made.debris.clear()


def test_what_a_crash_left_of_a_finished_task_is_removed_and_nothing_else(deployment: Deployment) -> None:
    good, bad, late = (deployment.crash(task) for task in ("good", "bad", "late"))
    unknown, foreign = deployment.crash("bad", run="deleted"), deployment.crash("bad", instance="other")
    place = good.attempt.identity.place
    would = deployment.clean()
    assert would.code == 0, would.err
    assert "8 things would be removed; remove with --yes" in would.out
    assert all(debris.is_whole for debris in (good, bad, late, unknown, foreign))

    done = deployment.clean("--yes")
    assert done.code == 0, done.err
    assert "8 things removed" in done.out
    assert good.is_gone and bad.is_gone
    assert late.is_whole and unknown.is_whole and foreign.is_whole
    assert "left alone, of a task that has not ended: tidy" in done.out
    assert done.out.count("stays: Airflow does not know its task") == 4
    assert foreign.attempt.id not in done.out
    committed = find_committed(deployment.store, place)
    assert committed is not None
    data = deployment.store.local_path(deployment.store.key(committed[0].artifacts["data"].uri))
    assert data is not None and data.read_text() == "1\n"
    assert "0 things removed" in deployment.clean("--yes").out


def test_a_program_that_runs_on_stays_until_it_is_asked_for(deployment: Deployment) -> None:
    bad = deployment.crash("bad", script=RUNS_ON)
    program = subprocess.Popen(
        ["sleep", "600"], env=os.environ | {"MLOPS_STEP_JSON": str(bad.attempt.step_json)}, start_new_session=True
    )
    try:
        said = deployment.clean("--yes")
        assert bad.is_whole and program.poll() is None
        assert "its program runs; --stop-running ends it" in said.out
        docker("stop", "-t", "0", bad.container)
        assert "0 things removed" in deployment.clean("--yes").out, "the process of the scratch folder still runs"
        assert bad.is_whole and program.poll() is None
        docker("start", bad.container)
        assert "would be ended and removed" in deployment.clean("--stop-running").out
        assert "4 things removed" in deployment.clean("--yes", "--stop-running").out
        assert bad.is_gone
        assert program.wait(10) == -15, "it was asked, not killed"
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()


def test_evidence_stays_as_long_as_it_is_to_be_kept(deployment: Deployment) -> None:
    kept, expired = deployment.crash("bad"), deployment.crash("bad")
    for debris, until in ((kept, 4e9), (expired, 1e9)):
        note = json.dumps({"version": 1, "until": until}).encode()
        deployment.store.put_if_absent(f"{debris.attempt.key}/{KEPT}", note)
    said = deployment.clean("--yes")
    assert kept.is_whole and expired.is_gone
    assert "left alone, kept (keep_failed): tidy" in said.out


def test_a_task_that_has_just_ended_is_left_to_its_own_process(deployment: Deployment) -> None:
    bad = deployment.crash("bad")
    half_an_hour_ago = datetime.now(UTC) - timedelta(minutes=30)
    deployment.sql("update task_instance set end_date = ?", half_an_hour_ago.strftime("%Y-%m-%d %H:%M:%S.%f"))
    said = deployment.clean("--yes")
    assert bad.is_whole
    assert "left alone, of a task that has just ended (--older-than): tidy" in said.out
    assert "4 things removed" in deployment.clean("--yes", "--older-than", "20m").out


def test_only_the_dag_that_is_asked_for_is_looked_at(deployment: Deployment) -> None:
    bad = deployment.crash("bad")
    assert "0 things removed" in deployment.clean("--yes", "--dag", "another").out
    assert bad.is_whole
    assert "4 things removed" in deployment.clean("--yes", "--dag", "tidy").out


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////nowhere/airflow.db", "Airflow's database cannot be read"),
        ("DOCKER_HOST", "unix:///nowhere/docker.sock", "does not answer"),
        ("AIRFLOW__MLOPS__STORE", "file:///nowhere/store", "is it mounted?"),
    ],
)
def test_where_somebody_cannot_be_asked_nothing_is_removed(
    deployment: Deployment, setting: str, value: str, expected: str
) -> None:
    bad = deployment.crash("bad")
    instance = {"AIRFLOW__MLOPS__INSTANCE": bad.attempt.identity.instance}
    said = deployment.clean("--yes", **{**instance, setting: value})
    assert said.code == 2
    assert expected in said.err
    assert bad.is_whole


def test_a_task_that_is_cleared_meanwhile_keeps_what_it_has(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = deployment.crash("bad")
    assert deployment.clear_meanwhile(monkeypatch) == 0
    assert bad.is_whole
    assert "stays: of a task that has not ended" in capsys.readouterr().out


def test_a_folder_of_somebody_else_is_not_taken_for_ours(deployment: Deployment) -> None:
    labels = deployment.crash("bad").attempt.identity.labels("0123456789ab")
    work = deployment.folder / "work"
    (deployment.folder / "precious").mkdir()
    (deployment.folder / "precious" / "attempt.json").write_text(json.dumps(labels))
    (work / "mlops-0123456789ab").symlink_to(deployment.folder / "precious")
    (work / "mlops-0123456789cd").mkdir()
    (work / "mlops-0123456789cd" / "attempt.json").symlink_to(deployment.folder / "precious" / "attempt.json")
    (work / "mlops-0123456789ef").mkdir()
    (work / "mlops-0123456789ef" / "attempt.json").write_text("[1]")
    (work / "mlops-0123456789aa").mkdir()
    said = deployment.clean("--yes")
    assert said.code == 0, said.err
    assert sorted(path.name for path in work.iterdir()) == [
        f"mlops-0123456789{end}" for end in ("aa", "ab", "cd", "ef")
    ]
    assert (deployment.folder / "precious" / "attempt.json").exists()


def test_looking_makes_no_id_for_a_deployment_in_which_nothing_ran(deployment: Deployment, tmp_path: Path) -> None:
    said = deployment.clean(AIRFLOW__MLOPS__STORE=f"file://{tmp_path}/fresh")
    assert (said.code, said.out) == (0, "0 things would be removed\n")
    assert "nothing has run yet" in said.err
    assert not (tmp_path / "fresh").exists()


def test_what_cannot_be_read_in_the_store_is_named_and_left_alone(deployment: Deployment) -> None:
    bad = deployment.crash("bad")
    other = replace(bad.attempt.identity, run_id="manual__2")
    folder = deployment.folder / "store" / other.place.generation_key
    link = folder.parents[3] / "linked"
    for attempt in ("0123456789ab", "../+c2+b2/1/0123456789ab"):
        (folder / attempt).mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    link.symlink_to("/etc")
    try:
        said = deployment.clean("--yes")
        assert said.code == 0, said.err
        assert bad.is_gone
        assert (folder / "0123456789ab").exists()
        assert "manifest.json is no JSON object" in said.err and str(folder) in said.err
        assert "leads out of the store" in said.err
    finally:
        link.unlink(missing_ok=True)
        shutil.rmtree(folder.parents[2])


def test_a_container_of_an_image_made_of_a_steps_container_is_somebody_elses(deployment: Deployment) -> None:
    bad = deployment.crash("bad")
    docker("commit", bad.container, "mlops-made-of-ours:2")
    mine = docker("create", "--name", "somebodys-own", "mlops-made-of-ours:2", "true")
    try:
        assert "4 things removed" in deployment.clean("--yes").out
        assert docker("ps", "-aq", "--filter", "name=somebodys-own") == mine[:12]
    finally:
        docker("rm", "-f", mine)
        docker("rmi", "mlops-made-of-ours:2")
