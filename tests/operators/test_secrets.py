# SPDX-License-Identifier: Apache-2.0
"""
The value of a secret reaches its program and nothing that anybody else reads: not Airflow's database (rendered templates, XCom, serialised
DAGs), not the store, not a log, not a container's labels. What ``as: env`` means for ``docker inspect`` is said here, too.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from tests.parts import airflow_home as airflow_parts
from tests.parts.private_daemon import PrivateDaemon, running

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

VALUES = {
    "variable": "sesame-of-a-variable",
    "password": "sesame-of-a-password",
    "extra": "sesame-of-an-extra",
    "lines": "sesame-of-line-1\nsesame-of-line-2\n",
}
REFERENCES = {
    "variable": {"variable": "token"},
    "password": {"connection": "hub", "field": "password"},
    "extra": {"connection": "hub", "field": "extra.api_key"},
    "uri": {"connection": "hub", "field": "uri"},
    "lines": {"variable": "lines"},
}
PIECES = [line for value in VALUES.values() for line in value.splitlines()]
"""What must not be found: each line, since a text may be shown line by line."""

SHOW = 'env; cat "$MLOPS_STEP_JSON"; for name in $NAMES; do eval "cat \\"\\$MLOPS_SECRET_$name\\""; done; cat $MLOPS_STEP_JSON >&2'
"""A program that prints all that it knows."""

DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import DockerContainerOperator, ProcessContainerOperator
REFERENCES = REFERENCES_HERE
dag = DAG("secretive", schedule=None, default_args={"retry_delay": timedelta(seconds=1), "infra_retries": 1})
def step(runtime, given, task_id, end):
    secrets = {name.upper(): {**reference, "as": given} for name, reference in REFERENCES.items()}
    env = {"NAMES": " ".join(secrets) if given == "file" else "", "SHOWN": "plain-and-shown"}
    for name in secrets:
        check = f'test -n "${name}"' if given == "env" else f'test -s "$MLOPS_SECRET_{name}"'
        end = f"{check} || exit 9; {end}"
    program = SHOW_HERE + "; " + end
    more = {"image": "mlops-busybox:1"} if runtime is DockerContainerOperator else {}
    runtime(task_id=task_id, command=["sh", "-c", program], env=env, secrets=secrets, outputs={"n": "integer"}, dag=dag,
            keep_failed=timedelta(hours=1), **more)
for name, runtime in {"docker": DockerContainerOperator, "process": ProcessContainerOperator}.items():
    for given in ("file", "env"):
        step(runtime, given, f"{name}-{given}-ends-well", "echo 7 > $MLOPS_OUTPUT_N")
        step(runtime, given, f"{name}-{given}-fails", "exit 3")
        step(runtime, given, f"{name}-{given}-writes-nonsense", "cat $MLOPS_STEP_JSON > $MLOPS_OUTPUT_N")
"""


@dataclass
class Traces:
    """All that a run with secrets has left."""

    result: DagResult
    folder: Path
    containers: dict[str, dict[str, Any]]
    """By task id, what the daemon says of those that failed and were kept."""

    def database(self, table: str | None = None) -> str:
        """Every value in a table of Airflow's, or in all of them."""
        (file,) = self.folder.glob("dags-*.db")
        with contextlib.closing(sqlite3.connect(file)) as found:
            names = [name for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            chosen = [name for name in names if table in (None, name)]
            assert chosen, f"Airflow has no table {table}: {names}"
            rows = [row for name in chosen for row in found.execute(f'SELECT * FROM "{name}"')]  # noqa: S608
        return "\n".join(_text(value) for row in rows for value in row)

    def stored(self, name: str) -> str:
        """The files of a name in the store."""
        files = [*(self.folder / "store").rglob(name)]
        assert files, name
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@pytest.fixture(scope="module")
def traces(
    airflow_home: Path,
    migrated_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
    docker_daemon: str,
    busybox_image: str,
) -> Iterator[Traces]:
    """One run for all tests, on a daemon of its own: what is looked at there is its alone."""
    folder = tmp_path_factory.mktemp("traces")
    run_dag: RunDag = airflow_parts.run_dag.__wrapped__(airflow_home, migrated_database, folder)  # type: ignore[attr-defined]
    text = DAG.replace("REFERENCES_HERE", repr(REFERENCES)).replace("SHOW_HERE", repr(SHOW))
    hub = {"conn_type": "http", "host": "hub", "login": "me", "password": VALUES["password"]}
    with running(PrivateDaemon) as daemon:
        result = run_dag(
            text,
            env={
                "DOCKER_HOST": daemon.url,
                "AIRFLOW_VAR_TOKEN": VALUES["variable"],
                "AIRFLOW_VAR_LINES": VALUES["lines"],
                "AIRFLOW_CONN_HUB": json.dumps({**hub, "extra": {"api_key": VALUES["extra"]}}),
                "AIRFLOW__MLOPS__STORE": f"file://{folder}/store",
                "AIRFLOW__MLOPS__WORK_DIR": f"{folder}/work",
            },
        )
        cli = docker.APIClient(daemon.url, version="auto")
        details = [cli.inspect_container(one["Id"]) for one in cli.containers(all=True)]
        cli.close()
        yield Traces(result, folder, {one["Config"]["Labels"]["mlops.task"]: one for one in details})


def test_programs_get_their_secrets(traces: Traces) -> None:
    for task, state in traces.result.tasks.items():
        assert state == ("success" if task.endswith("-ends-well") else "failed"), f"{task}\n{traces.result.log[-6000:]}"
    assert "exit code 9" not in traces.result.log
    assert traces.result.log.count("exit code 3") >= 4


@pytest.mark.parametrize(
    ("table", "holds"),
    [
        ("rendered_task_instance_fields", "plain-and-shown"),
        ("xcom", "manifest.json"),
        ("serialized_dag", "docker-file-ends-well"),
        ("dag_code", "REFERENCES"),
        ("log", "secretive"),
        (None, "plain-and-shown"),
    ],
)
def test_no_secret_is_in_airflows_database(traces: Traces, table: str | None, holds: str) -> None:
    text = traces.database(table)
    assert holds in text, "this would have been looked through in vain"
    assert [piece for piece in PIECES if piece in text] == []


def test_no_secret_is_in_a_log(traces: Traces) -> None:
    log = traces.result.log
    assert "PASSWORD=***" in log and "VARIABLE=***" in log
    assert log.count('"secrets":') >= 12  # each program printed its seal, which names the references
    assert [piece for piece in PIECES if piece in log] == []


@pytest.mark.parametrize("name", ["step.json", "manifest.json", "failure-1.json", "*"])
def test_no_secret_is_in_the_store(traces: Traces, name: str) -> None:
    text = traces.stored(name)
    assert [piece for piece in PIECES if piece in text] == []
    assert (name != "step.json") or '"connection":"hub"' in text.replace(" ", "")


def test_no_secret_stays_on_the_worker(traces: Traces) -> None:
    kept = [path for path in (traces.folder / "work").rglob("*") if path.is_file()]
    assert kept, "what failed is kept"
    assert [path for path in kept if any(piece in path.read_text(errors="replace") for piece in PIECES)] == []
    memory = [path for path in Path("/dev/shm").glob("mlops-*-secrets/*")]
    assert [path for path in memory if any(piece in path.read_text(errors="replace") for piece in PIECES)] == []


def test_no_secret_is_in_a_label_or_a_name_and_files_are_not_in_docker_inspect(traces: Traces) -> None:
    files = {task: details for task, details in traces.containers.items() if "-file-" in task}
    assert len(files) == 2
    assert [piece for piece in PIECES if piece in json.dumps(files)] == []
    labels = json.dumps([[one["Config"]["Labels"], one["Name"]] for one in traces.containers.values()])
    assert [piece for piece in PIECES if piece in labels] == []


def test_as_env_shows_in_the_environment_that_docker_inspect_prints_and_nowhere_else_of_it(traces: Traces) -> None:
    given = {task: details for task, details in traces.containers.items() if "-env-" in task}
    assert len(given) == 2
    for details in given.values():
        variables = dict(variable.partition("=")[::2] for variable in details["Config"].pop("Env"))
        assert {name: variables[name.upper()] for name in VALUES} == VALUES
        assert [piece for piece in PIECES if piece in json.dumps(details)] == []
