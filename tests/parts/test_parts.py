# SPDX-License-Identifier: Apache-2.0
"""The parts are what tests take them for: limits that limit, images with their programs, a store that refuses."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.docker import docker_session
from tests.parts.processes import is_running, start_server, stop_server
from tests.parts.requirement import Unavailable

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag


@pytest.fixture
def client(docker_daemon: str) -> Iterator[Any]:
    docker = pytest.importorskip("docker")
    client = docker.DockerClient(base_url=docker_daemon, version="auto")
    yield client
    client.close()


class TestDocker:
    def test_a_memory_limit_kills_what_exceeds_it(self, client: Any, python_image: str) -> None:
        options = {"mem_limit": "32m", "memswap_limit": "32m", "detach": True}
        container = client.containers.run(python_image, ["python", "-c", "bytearray(200 << 20)"], **options)
        try:
            assert container.wait()["StatusCode"] == 137
            container.reload()
            assert container.attrs["State"]["OOMKilled"] is True
        finally:
            container.remove(force=True)

    def test_a_cpu_limit_is_a_quota(self, client: Any, python_image: str) -> None:
        program = (
            "import time; end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
        )
        used = client.containers.run(python_image, ["python", "-c", program], nano_cpus=200_000_000, remove=True)
        assert float(used) < 0.2 * 1.5 * 1.6

    def test_any_user_can_run_the_examples_packages(self, client: Any, python_image: str) -> None:
        program = "import pandas, skops, sklearn, os; print(sklearn.__version__, os.getuid())"
        output = client.containers.run(python_image, ["python", "-c", program], user="4321:4321", remove=True)
        assert output.split() == [b"1.9.1", b"4321"]

    def test_busybox_has_a_shell_and_awk(self, client: Any, busybox_image: str) -> None:
        output = client.containers.run(busybox_image, ["sh", "-c", "echo 4 2 | awk '{print $1 $2}'"], remove=True)
        assert output == b"42\n"

    def test_a_daemon_that_does_not_answer_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        with pytest.raises(Unavailable, match="DOCKER_HOST=unix:///nowhere/docker.sock"), docker_session():
            pass


class TestS3:
    def test_a_second_put_if_absent_is_refused(self, s3_store_url: tuple[str, dict[str, Any]]) -> None:
        import botocore.exceptions
        import s3fs

        url, options = s3_store_url
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        file_system = s3fs.S3FileSystem(**options)
        put = {"Bucket": bucket, "Key": f"{prefix}/manifest.json", "Body": b"first", "IfNoneMatch": "*"}
        file_system.call_s3("put_object", **put)
        with pytest.raises((OSError, botocore.exceptions.ClientError), match="(?i)pre-?condition"):
            file_system.call_s3("put_object", **put)
        assert file_system.cat(f"{url}/manifest.json") == b"first"

    def test_every_test_gets_an_empty_bucket(self, s3_store_url: tuple[str, dict[str, Any]]) -> None:
        import s3fs

        url, options = s3_store_url
        assert s3fs.S3FileSystem(**options).find(url.rsplit("/", 1)[0]) == []


class TestRunDag:
    def test_a_dag_file_runs_and_tells_what_came_of_it(self, run_dag: RunDag) -> None:
        result = run_dag(
            """
            from airflow.sdk import DAG, task
            from beside import GREETING

            with DAG("parts", schedule=None, params={"name": "nobody"}, default_args={"retries": 0}) as dag:
                @task
                def greet(params=None):
                    print(GREETING, params["name"])
                    return [params["name"]]

                @task
                def fail(index):
                    raise ValueError(f"no {index}")

                greet() >> fail.expand(index=[7])
            """,
            {"name": "somebody"},
            beside={"beside.py": "GREETING = 'hello'"},
        )
        assert result.state == "failed"
        assert result.tasks == {"greet": "success", "fail[0]": "failed"}
        assert result.xcoms == {"greet": ["somebody"]}
        assert "hello somebody" in result.log
        assert "no 7" in result.log

    def test_a_file_that_cannot_be_read_shows_its_traceback(self, run_dag: RunDag) -> None:
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            run_dag("1 / 0")


class TestServers:
    def test_a_server_that_dies_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", "import sys; sys.exit('port taken')"]
        with pytest.raises(Unavailable, match="ended with code 1(.|\n)*port taken"):
            start_server(command, tmp_path / "log", lambda: False, seconds=30)

    def test_a_server_that_never_answers_is_stopped(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        program = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
        with pytest.raises(Unavailable, match="did not answer within"):
            start_server([sys.executable, "-c", program], tmp_path / "log", lambda: False, seconds=1.5)
        assert not is_running(int(pid_file.read_text()))

    def test_a_server_that_ignores_the_polite_signal_is_killed(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        program = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(60)"
        pid = start_server([sys.executable, "-c", program], tmp_path / "log", ready.exists, seconds=30)
        started = time.monotonic()
        stop_server(pid, seconds=0.5)
        assert not is_running(pid)
        assert time.monotonic() - started < 20


def test_the_tests_airflow_is_not_the_users(airflow_home: Path) -> None:
    assert airflow_home == Path(os.environ["AIRFLOW_HOME"])
    assert airflow_home != Path.home() / "airflow"
    assert (airflow_home / "airflow.db").stat().st_size > 100_000
