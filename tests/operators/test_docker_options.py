# SPDX-License-Identifier: Apache-2.0
"""What a step asks of its container, as the container sees it, on a real daemon."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.operators.test_docker import HEAD
from tests.parts.docker import containers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(autouse=True)
def busybox(docker_daemon: str, busybox_image: str) -> None:
    """Every test here needs the daemon and the image."""


def test_arguments_of_the_provider_and_resources_reach_the_container(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    look = step(
        "look",
        "hostname; cat /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net; df -k /dev/shm; ulimit -n; id -u; pwd; cat /proc/self/status",
        hostname="by-spec", extra_hosts={"somewhere": "10.9.8.7"}, network_mode="none", shm="32Mi", user="4711:4712",
        ulimits=[{"Name": "nofile", "Soft": 77, "Hard": 77}], working_dir="/etc", log_opts_max_size="1m",
    )
    DockerContainerOperator(
        task_id="words", image="mlops-busybox:1", entrypoint=["echo", "from the entrypoint:"], args=["a b", "$HOME"], dag=dag
    )
    """
    )
    assert result.state == "success", result.log
    said = result.log
    for expected in ("by-spec", "10.9.8.7", "32768", "4711"):
        assert expected in said
    assert "eth0" not in said
    lines = {line.partition("]")[2].strip().split(" [")[0].strip() for line in said.splitlines()}
    assert {"77", "/etc", "4711"} <= lines
    assert "from the entrypoint: a b $HOME" in said
    assert containers() == []


def test_a_folder_of_the_host_needs_the_deployments_leave(run_dag: RunDag, tmp_path: Path) -> None:
    opened, shut = tmp_path / "opened", tmp_path / "shut"
    for folder in (opened, shut):
        folder.mkdir()
        (folder / "file").write_text("there")
    (opened / "way-out").symlink_to(shut)
    text = (
        HEAD
        + f"""
    step("reads", "cat /data/file && ! touch /data/new", volumes=[{{"source": "{opened}", "target": "/data", "read_only": True}}])
    step("writes", "echo x > /data/new", volumes=[{{"source": "{opened}", "target": "/data"}}])
    step("named", "echo x > /data/new", volumes=[{{"source": "mlops-test-named", "target": "/data"}}])
    step("other", "true", volumes=[{{"source": "{shut}", "target": "/data"}}], retries=3)
    step("sneaks", "true", volumes=[{{"source": "{opened}/way-out", "target": "/data"}}])
    """
    )
    try:
        result = run_dag(text, env={"AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(opened)})
    finally:
        subprocess.run(["docker", "volume", "rm", "-f", "mlops-test-named"], check=True, capture_output=True)
    good, bad = dict.fromkeys(("reads", "writes", "named"), "success"), dict.fromkeys(("other", "sneaks"), "failed")
    assert result.tasks == {**good, **bad}, result.log
    assert (opened / "new").exists()
    assert result.log.count("[mlops] allowed_volumes") >= 2
    assert containers() == []


@pytest.mark.parametrize("transfer", ["bind", "volume"])
def test_a_secret_is_in_a_variable_or_a_file_and_in_no_log(run_dag: RunDag, transfer: str) -> None:
    files = transfer == "bind"  # a volume is a disk, so files of secrets are refused there
    result = run_dag(
        HEAD
        + """
    step(
        "hush", "test $(printf $TOKEN | wc -c) = 15 && echo it is $TOKEN && cat $MLOPS_STEP_JSON && env",
        secrets={"TOKEN": {"variable": "token", "as": "env"}},
    )
    step(
        "file", "test -s $MLOPS_SECRET_KEY && stat -c %a $MLOPS_SECRET_KEY && cat $MLOPS_SECRET_KEY",
        secrets={"KEY": {"connection": "store", "field": "password"}},
    )
    """,
        env={
            "AIRFLOW_VAR_TOKEN": "hush-hush-value",
            "AIRFLOW_CONN_STORE": "generic://me:pass-word@host/x",
            "AIRFLOW__MLOPS__DOCKER_TRANSFER": transfer,
        },
    )
    assert result.tasks == {"hush": "success", "file": "success" if files else "failed"}, result.log
    assert "it is ***" in result.log
    assert "hush-hush-value" not in result.log
    assert "pass-word" not in result.log
    if files:
        assert "400" in result.log
    else:
        assert "give them as environment variables (as: env)" in result.log
    assert containers() == []


def test_a_gpu_on_a_host_without_one_fails_at_once_and_says_so(run_dag: RunDag) -> None:
    result = run_dag(HEAD + '    step("fit", "true", gpu=1, retries=2)\n')
    assert result.tasks == {"fit": "failed"}
    assert "this Docker host gives containers no GPUs" in result.log
    assert "a retry could not cure it" in result.log
    assert containers() == []


TIMED_OUT = """
    from datetime import timedelta
    step(
        "resume",
        "[ -e $MLOPS_CHECKPOINT/n ] && exec cp $MLOPS_CHECKPOINT/n $MLOPS_OUTPUT_N; echo 5 > $MLOPS_CHECKPOINT/n; trap exit TERM; sleep 600 & wait",
        checkpoint=True, retries=1, retry_delay=timedelta(seconds=1), step_timeout=timedelta(seconds=3), outputs={"n": "integer"},
    )
"""


@pytest.mark.parametrize("transfer", ["bind", "volume"])
def test_a_checkpoint_outlives_a_timeout(run_dag: RunDag, transfer: str) -> None:
    result = run_dag(HEAD + TIMED_OUT, env={"AIRFLOW__MLOPS__DOCKER_TRANSFER": transfer})
    assert result.tasks == {"resume": "success"}, result.log
    assert result.xcoms["resume"]["parameters"] == {"n": 5}
    assert "longer than its timeout" in result.log
    assert containers() == []


@pytest.mark.s3
@pytest.mark.parametrize("transfer", ["bind", "volume"])
def test_a_checkpoint_in_an_object_store_outlives_a_timeout(
    run_dag: RunDag, s3_store_url: tuple[str, dict[str, Any]], transfer: str
) -> None:
    url, options = s3_store_url
    settings = {
        "AIRFLOW__MLOPS__STORE": url,
        "AIRFLOW__MLOPS__STORAGE_OPTIONS": json.dumps(options),
        "AIRFLOW__MLOPS__INSTANCE": f"checkpoints-{transfer}",
        "AIRFLOW__MLOPS__DOCKER_TRANSFER": transfer,
    }
    result = run_dag(HEAD + TIMED_OUT, env=settings)
    assert result.tasks == {"resume": "success"}, result.log
    assert result.xcoms["resume"]["parameters"] == {"n": 5}
    assert containers() == []
