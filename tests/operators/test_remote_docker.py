# SPDX-License-Identifier: Apache-2.0
"""Steps on a second Docker daemon, over TCP with TLS, which an Airflow connection names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from tests.parts.images import ROOT
from tests.parts.remote_daemon import ADDRESS, Authority

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag
    from tests.parts.remote_daemon import RemoteDaemon

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

HEAD = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import DockerContainerOperator
dag = DAG("remote", schedule=None)
def step(name, program, **more):
    return DockerContainerOperator(task_id=name, image="mlops-busybox:1", command=["sh", "-c", program], dag=dag,
                                   retry_delay=timedelta(seconds=1), **more)
"""
HANDS_ON = """
made = step("make", "echo hello > {{ outputs.text.path }}", outputs={"text": {"type": "dataset", "file": "text.txt"}})
step("use", "grep -q hello {{ inputs.text.path }} && wc -c < {{ inputs.text.path }} > $MLOPS_OUTPUT_N",
     inputs={"text": made.artifact("text")}, outputs={"n": "integer"})
"""


class Remote:
    """An Airflow that knows the daemon by a connection alone."""

    def __init__(self, run_dag: RunDag, daemon: RemoteDaemon, folder: Path) -> None:
        self.daemon, self.folder = daemon, folder
        self._run_dag = run_dag

    def run(self, text: str, connection: str | None = None, **settings: str) -> DagResult:
        return self._run_dag(HEAD + text, env=self.environment(connection, **settings))

    def environment(self, connection: str | None = None, **settings: str) -> dict[str, str]:
        """Nothing listens where ``DOCKER_HOST`` points."""
        chosen = {"docker_host_conn_id": "trainer", "store": f"file://{self.folder}/store", **settings}
        return {
            "DOCKER_HOST": f"unix://{self.folder}/nobody.sock",
            "AIRFLOW_CONN_TRAINER": self.daemon.connection() if connection is None else connection,
            "AIRFLOW__MLOPS__WORK_DIR": str(self.folder / "work"),
            **{f"AIRFLOW__MLOPS__{name.upper()}": value for name, value in chosen.items()},
        }

    def holds_key(self, text: str) -> bool:
        """Whether any line of the key is in a text."""
        return any(line in text for line in self.daemon.client.key.splitlines() if not line.startswith("-----"))

    def nothing_is_left(self) -> bool:
        return self.daemon.containers() == [] and [*(self.folder / "work").iterdir()] == []


@pytest.fixture
def remote(run_dag: RunDag, remote_daemon: RemoteDaemon, tmp_path: Path) -> Remote:
    return Remote(run_dag, remote_daemon, tmp_path)


@pytest.mark.parametrize("transfer", ["bind", "volume", "auto"])
def test_artifacts_are_handed_on_over_tls(remote: Remote, transfer: str) -> None:
    result = remote.run(HANDS_ON, docker_transfer=transfer)
    assert result.state == "success", result.log[-6000:]
    assert result.xcoms["use"]["parameters"] == {"n": 6}
    assert remote.nothing_is_left()


def test_a_step_names_a_connection_of_its_own_and_a_url_wins_over_the_deployments(remote: Remote) -> None:
    result = remote.run(
        'step("own", "true", docker_host_conn_id="trainer")\n'
        'step("url", "true", docker_url="unix:///nobody/there.sock", infra_retries=0)\n'
        'step("mapped", "true")\n'
        'DockerContainerOperator.partial(task_id="many", image="mlops-busybox:1", docker_host_conn_id="trainer", dag=dag)'
        '.expand(command=[["true"], ["sh", "-c", "exit 0"]])\n',
        docker_host_conn_id="nobody",
    )
    expected = {"own": "success", "url": "failed", "mapped": "failed", "many[0]": "success", "many[1]": "success"}
    assert result.tasks == expected, result.log[-6000:]
    assert "Airflow has no connection 'nobody'" in result.log


def test_paths_and_a_whole_url_are_as_good_as_texts(remote: Remote) -> None:
    files = {name: remote.folder / name for name in ("ca_cert", "client_cert", "client_key")}
    extra = json.loads(remote.daemon.connection())["extra"]
    for name, path in files.items():
        path.write_text(extra[name])
    given = {name: str(path) for name, path in files.items()}
    url = remote.daemon.connection(host=f"tcp://{ADDRESS}:{remote.daemon.port}", port=None, extra=given)
    result = remote.run('step("step", "true")', url)
    assert result.state == "success", result.log[-6000:]
    sock = remote.run('step("step", "true")', json.dumps({"conn_type": "docker", "host": remote.daemon.url}))
    assert sock.state == "success", sock.log[-6000:]


@pytest.mark.parametrize("transfer", ["bind", "volume"])
def test_a_program_that_fails_fails_its_step(remote: Remote, transfer: str) -> None:
    result = remote.run('step("step", "echo before; exit 7", infra_retries=0)', docker_transfer=transfer)
    assert result.tasks == {"step": "failed"}
    assert "before" in result.log
    assert "user-code: step 'step': its program ended with exit code 7" in result.log
    assert remote.nothing_is_left()


DIES = """
import os, signal, threading, time
def ask_to_stop():
    while not os.path.exists("SHARED/ran"):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
class DockerContainerOperator(DockerContainerOperator):
    def execute(self, context):
        threading.Thread(target=ask_to_stop, daemon=True).start()
        return super().execute(context)
    def on_kill(self):
        super().on_kill()
        os._exit(9)  # as Airflow kills a task process that takes its time
step("step", "trap : TERM; touch /shared/ran; sleep 300 & wait; sleep 300", on_drain="stop", stop_grace=timedelta(seconds=2),
     volumes=[{"source": "SHARED", "target": "/shared"}])
"""


def test_a_kill_stops_the_container_through_tls_although_the_task_process_is_gone(remote: Remote) -> None:
    shared = remote.folder / "shared"
    shared.mkdir()
    with pytest.raises(AssertionError, match="the DAG did not run .code 9"):
        remote.run(DIES.replace("SHARED", str(shared)), allowed_volumes=str(remote.folder))
    until(remote.nothing_is_left, 60)


def test_a_retry_adopts_the_container_of_a_daemon_that_was_away(remote: Remote) -> None:
    daemon = remote.daemon
    daemon.stop()
    daemon.start("--live-restore")
    program = "echo ran; n=0; until [ -e /shared/go ] || [ $n = 900 ]; do sleep 0.1; n=$((n+1)); done; ls /shared | wc -l > $MLOPS_OUTPUT_N"
    volume = f'volumes=[{{"source": "{remote.folder}/shared", "target": "/shared"}}]'
    (remote.folder / "shared").mkdir()
    text = f'step("step", "touch /shared/$(date +%s%N); {program}", infra_retries=30, outputs={{"n": "integer"}}, {volume})'
    with ThreadPoolExecutor(1) as pool:
        settings = {"daemon_patience": "2", "allowed_volumes": str(remote.folder)}
        future = pool.submit(remote.run, text, **settings)
        until(lambda: future.done() or [*(remote.folder / "shared").iterdir()])
        daemon.kill()
        until(lambda: [*remote.folder.glob("store/**/failure-1.json")])
        daemon.start("--live-restore")
        (remote.folder / "shared" / "go").touch()
        result = future.result()
    assert result.tasks == {"step": "success"}, result.log[-6000:]
    assert "Adopted attempt" in result.log
    assert result.xcoms["step"]["parameters"] == {"n": 2}  # its one mark, and the sign to go on
    assert remote.nothing_is_left()


def test_secrets_as_files_need_a_daemon_that_sees_memory_of_the_worker(remote: Remote) -> None:
    text = """
step("step", "test $(cat $MLOPS_SECRET_KEY) = sesame-1 && echo it is there", secrets={"KEY": {"variable": "key"}}, retries=2)
step("env", "test $KEY = sesame-1", secrets={"KEY": {"variable": "key", "as": "env"}})
"""
    env = {"AIRFLOW_VAR_KEY": "sesame-1"}
    seen = remote._run_dag(HEAD + text, env=remote.environment() | env)
    assert seen.state == "success", seen.log[-6000:]
    unseen = remote._run_dag(HEAD + text, env=remote.environment(docker_transfer="volume") | env)
    assert unseen.tasks == {"step": "failed", "env": "success"}
    assert (
        "policy: secrets as files (KEY) need a Docker daemon that sees the worker's memory-backed folders" in unseen.log
    )
    assert "give them as environment variables (as: env)" in unseen.log
    assert remote.nothing_is_left()


def wrong(daemon: RemoteDaemon) -> dict[str, tuple[dict[str, Any], str]]:
    """Connections that a daemon, or we, will not have; and what is said of each."""
    stranger = Authority("of somebody else")
    pair = stranger.sign("worker")
    as_stranger = {"client_cert": pair.certificate, "client_key": pair.key}
    nobody = dict.fromkeys(("client_cert", "client_key"))
    return {
        "certificate of a stranger": ({"extra": as_stranger}, "it refuses the certificate"),
        "no certificate": ({"extra": nobody}, "it refuses the certificate"),
        "no TLS": ({"extra": {"ca_cert": None, **nobody}}, "it speaks TLS, and the connection has no certificates for it"),
        "other authority": ({"extra": {"ca_cert": stranger.certificate}}, "its certificate is not trusted"),
        "the system's authorities": ({"host": f"https://{ADDRESS}", "extra": {"ca_cert": None}}, "its certificate is not trusted"),
        "half a pair": ({"extra": {"client_key": None}}, "its extra has no client_key; expected client_cert and client_key"),
        "key of another": ({"extra": {"client_key": pair.key}}, "client_cert and client_key are no certificate in PEM form with its key"),
        "no PEM": ({"extra": {"ca_cert": "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n"}}, "ca_cert is no certificate in PEM form"),
        "no path": ({"extra": {"client_key": "key.pem"}}, "client_key is neither PEM text (-----BEGIN …) nor an absolute path"),
        "no file": ({"extra": {"client_key": "/nowhere/key.pem"}}, "client_key names a file that cannot be read on this worker: No such file"),
        "no flag": ({"extra": {"verify": "perhaps"}}, "verify in its extra is 'perhaps'; expected true or false"),
        "no host": ({"host": ""}, "it has no host; expected one such as"),
        "no address": ({"host": "ftp://host"}, "its host is not the address of a Docker daemon"),
        "a password": ({"host": "tcp://me:secret@host"}, "its host is not the address of a Docker daemon"),
    }  # fmt: skip


def test_a_connection_that_does_not_fit_is_no_trouble_of_the_infrastructure(remote: Remote) -> None:
    cases = wrong(remote.daemon)
    text = "".join(
        f'step("s{number}", "true", docker_host_conn_id="c{number}", infra_retries=3)\n' for number in range(len(cases))
    )
    connections = {
        f"AIRFLOW_CONN_C{number}": remote.daemon.connection(**changes)
        for number, (changes, _) in enumerate(cases.values())
    }
    result = remote._run_dag(HEAD + text, env=remote.environment() | connections)
    assert set(result.tasks.values()) == {"failed"}
    for name, (_, said) in cases.items():
        assert said in result.log, f"{name}: {said}"
    assert result.log.count("(not retried: a retry could not cure it)") >= len(cases)
    assert "infrastructure:" not in result.log
    assert not remote.holds_key(result.log)


def test_a_daemon_that_is_away_is_the_infrastructures_trouble(remote: Remote) -> None:
    remote.daemon.stop()
    result = remote.run('step("step", "true", infra_retries=1)')
    assert result.tasks == {"step": "failed"}
    assert (
        f"the Docker daemon at tcp://{ADDRESS}:{remote.daemon.port} (connection 'trainer') cannot be reached"
        in result.log
    )
    assert "infra_retries is 1" in result.log


def test_verify_false_takes_any_certificate_of_the_daemon(remote: Remote) -> None:
    result = remote.run(
        'step("step", "true")',
        remote.daemon.connection(extra={"ca_cert": None, "verify": False}, host=f"https://{ADDRESS}"),
    )
    assert result.state == "success", result.log[-6000:]


def test_nothing_of_the_connection_is_written_down(remote: Remote) -> None:
    text = 'step("step", "env; cat $MLOPS_STEP_JSON; sleep 5", outputs={"n": "integer"}, keep_failed=timedelta(hours=1), infra_retries=0)'
    failed = remote.run(text)
    assert failed.tasks == {"step": "failed"}, failed.log
    cli = docker.APIClient(remote.daemon.url, version="auto")
    (container,) = cli.containers(all=True)
    (seal,) = remote.folder.glob("store/**/step.json")
    written = [path.read_text(errors="replace") for path in remote.folder.glob("**/*") if path.is_file()]
    written += [failed.log, json.dumps(cli.inspect_container(container["Id"]))]
    cli.close()
    sealed = json.loads(seal.read_text())["runtime"]["docker"]
    assert sealed["docker_host_conn_id"] == "trainer"
    assert not {"docker_url", "tls_ca_cert", "tls_client_cert", "tls_client_key"} & set(sealed)
    assert not any(remote.holds_key(text) for text in written)
    # Nor is a file of it left anywhere in memory.
    found = subprocess.run(
        ["grep", "-rlsF", remote.daemon.client.key.splitlines()[1], "/dev/shm", "/tmp", "--exclude-dir=pytest-of-*", "--include=*.pem"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""


def test_shell_and_clean_reach_the_daemon_by_the_connection(remote: Remote, tmp_path: Path) -> None:
    text = 'step("step", "exit 3", env={"COLOUR": "blue"}, keep_failed=timedelta(seconds=1))'
    result = remote.run(text, docker_transfer="volume")
    assert result.tasks == {"step": "failed"}, result.log[-6000:]
    (database,) = tmp_path.glob("dags-*.db")
    environment = {
        **os.environ,
        **remote.environment(docker_transfer="volume"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
        "PYTHONPATH": str(ROOT),
    }
    # In the database, as a deployment has it; what a task found in its environment is not there.
    connection = environment.pop("AIRFLOW_CONN_TRAINER")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    call = "import sys; from airflow_mlops.cli.main import main; sys.exit(main())"
    missing = command("-c", call, "clean", "--deployment")
    assert missing.returncode == 2
    assert "Airflow has no connection 'trainer'" in missing.stderr and "nothing was removed" in missing.stderr
    added = command("-m", "airflow", "connections", "add", "trainer", "--conn-json", connection)
    assert added.returncode == 0, added.stderr[-3000:]
    looked = command(
        "-c", call, "shell", result.run_id, "step", "--dag", "remote", "--", "sh", "-c", "echo $COLOUR; exit 5"
    )
    assert (looked.returncode, looked.stdout.splitlines()[-1:]) == (5, ["blue"]), looked.stderr[-3000:]
    assert len(remote.daemon.containers()) == 2  # the failed one and its volume; the visitor's are gone
    cleaned = command("-c", call, "clean", "--deployment", "--older-than", "1s", "--yes")
    assert cleaned.returncode == 0, cleaned.stderr[-3000:]
    assert "Docker daemon of connection 'trainer'" in cleaned.stderr
    assert remote.daemon.containers() == []
    assert not remote.holds_key(looked.stdout + looked.stderr + cleaned.stdout + cleaned.stderr)


def until(holds: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
