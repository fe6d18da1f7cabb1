# SPDX-License-Identifier: Apache-2.0
"""Docker steps against a real daemon."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.parts.docker import containers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

HEAD = """
    from airflow.sdk import DAG
    from airflow_mlops.operators import DockerContainerOperator, DockerPreprocessOperator
    dag = DAG("containers", schedule=None)
    def step(task_id, script, cls=DockerContainerOperator, **kwargs):
        return cls(task_id=task_id, image="mlops-busybox:1", command=["sh", "-c", script], dag=dag, **kwargs)
"""
HANDOVER = (
    HEAD
    + """
    make = step(
        "make",
        "echo a > {{ outputs.train.path }}; mkdir $MLOPS_OUTPUT_MODEL; echo w > $MLOPS_OUTPUT_MODEL/weights; id -u > $MLOPS_OUTPUT_UID",
        outputs={"train": {"type": "dataset", "file": "train.csv"}, "model": "model", "uid": "integer"},
        **USER,
    )
    use = step(
        "use",
        "grep -q a $MLOPS_INPUT_TRAIN && grep -q w {{ inputs.model.path }}/weights || exit 5\\n"
        "(echo x > $MLOPS_INPUT_TRAIN) 2>/dev/null && exit 6\\n"
        "(echo x > $MLOPS_INPUT_MODEL/more) 2>/dev/null && exit 7\\n"
        "echo x > $HOME/y && echo x > /mlops/tmp/z && test $USER = mlops && test -s /mlops/step.json || exit 8\\n"
        "test $MLOPS_INPUT_TRAIN = /mlops/inputs/train/train.csv || exit 9",
        inputs={"train": make.artifact("train"), "model": make.artifact("model")},
        **USER,
    )
"""
)


@pytest.fixture(autouse=True)
def busybox(docker_daemon: str, busybox_image: str) -> None:
    """Every test here needs the daemon and the image."""


@pytest.mark.parametrize(("transfer", "user"), [("bind", None), ("volume", None), ("volume", "4711:4711")])
def test_artifacts_are_handed_on_and_inputs_cannot_be_written(run_dag: RunDag, transfer: str, user: str | None) -> None:
    # Root writes where it likes; only where a volume's files belong to root can a test with that user see a refusal.
    text = HANDOVER.replace("**USER", f"user={user!r}")
    if transfer == "volume" and user is None:
        text = text.replace("exit 6", "true").replace("exit 7", "true")
    result = run_dag(text, env={"AIRFLOW__MLOPS__DOCKER_TRANSFER": transfer})
    assert result.tasks == {"make": "success", "use": "success"}, result.log
    assert result.xcoms["make"]["parameters"]["uid"] == (os.getuid() if user is None else 4711)
    assert containers() == []


def test_a_daemon_that_does_not_see_our_files_gets_a_volume(run_dag: RunDag) -> None:
    elsewhere = json.dumps({"/": "/nowhere-on-this-host/"})
    text = HANDOVER.replace("**USER", 'user="4711:4711"')
    result = run_dag(text, env={"AIRFLOW__MLOPS__HOST_PATHS": elsewhere})
    assert result.state == "success", result.log
    assert "does not see this worker's files" in result.log
    assert containers() == []


def test_memory_is_a_hard_limit_and_passing_it_has_a_message_of_its_own(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("eat", "tail /dev/zero", memory="32Mi")
    """
    )
    assert result.tasks == {"eat": "failed"}
    assert "out-of-memory" in result.log
    assert "32Mi" in result.log
    assert containers() == []


def test_cpu_is_a_quota(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step(
        "count",
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max",
        cpu=0.5, outputs={},
    )
    """
    )
    assert result.state == "success", result.log
    assert "50000" in result.log


def test_an_exit_code_fails_the_step_and_leaves_no_container(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("bad", "echo last words; exit 7")
    """
    )
    assert result.tasks == {"bad": "failed"}
    assert "last words" in result.log
    assert "ended with exit code 7" in result.log
    assert containers() == []


CANNOT_START = {
    'image="mlops-no-such-image:1"': "is not on the Docker host and cannot be pulled",
    'image="Not an image"': "invalid reference format",
    'command=["no-such-program"]': "cannot run ['no-such-program']",
    'memory="1Mi"': "Minimum memory limit allowed is 6MB",
    "cpu=9999": "CPUs",
    'network_mode="mlops-no-such-network"': "network mlops-no-such-network not found",
    'ulimits=[{"Nam": "x"}]': "an argument of docker cannot be used",
    'volumes=[dict(source="mlops-v1", target="/d"), dict(source="mlops-v2", target="/d")]': "Duplicate mount point: /d",
    'user="nobody-of-that-name"': "unable to find user nobody-of-that-name",
    'log_opts_max_size="bogus"': "failed to initialize logging driver",
    'ulimits=[{"name": "bogus", "soft": 1, "hard": 5}]': "wrong rlimit value",
    'docker_conn_id="nobody"': "nobody",
    'env={"BIG": "x" * 200_000}': "The largest: BIG (200003 bytes)",
    'parameters={"p": "a\\0b"}': "MLOPS_PARAM_P holds a NUL character",
}


def test_a_daemon_that_is_away_is_charged_to_the_infrastructure(run_dag: RunDag, tmp_path: Path) -> None:
    result = run_dag(
        HEAD + f'    step("away", "true", docker_url="unix://{tmp_path}/none.sock", infra_retries=1, retry_delay=1)\n'
    )
    assert result.tasks == {"away": "failed"}
    assert "infrastructure: step 'away': the Docker daemon failed" in result.log
    assert "no retry left: infra_retries is 1" in result.log


def test_numbers_are_as_good_as_texts_for_log_options(run_dag: RunDag) -> None:
    result = run_dag(HEAD + '    step("log", "echo x", log_opts_max_file=3, log_opts_max_size="1m")\n')
    assert result.tasks == {"log": "success"}, result.log


@pytest.mark.parametrize("transfer", ["bind", "volume"])
def test_what_cannot_start_is_not_retried(run_dag: RunDag, transfer: str) -> None:
    steps = "".join(
        f'    DockerContainerOperator(task_id="t{number}", **dict(common, {arguments}))\n'
        for number, arguments in enumerate(CANNOT_START)
    )
    common = '    common = dict(image="mlops-busybox:1", command=["true"], retries=2, retry_delay=1, dag=dag)\n'
    result = run_dag(
        HEAD + "\n" + common + steps,
        env={"AIRFLOW__MLOPS__DOCKER_TRANSFER": transfer, "AIRFLOW__MLOPS__ALLOWED_NETWORKS": "*"},
    )
    assert result.tasks == {f"t{number}": "failed" for number in range(len(CANNOT_START))}
    assert [says for says in CANNOT_START.values() if says not in result.log] == []
    assert result.log.count("a retry could not cure it") >= len(CANNOT_START)
    assert containers() == []


def test_a_timeout_stops_the_container(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    from datetime import timedelta
    step("slow", "sleep 600", step_timeout=timedelta(seconds=2))
    """
    )
    assert result.tasks == {"slow": "failed"}
    assert "longer than its timeout of 2 s" in result.log
    assert containers() == []


def test_five_silent_minutes_are_no_trouble(run_dag: RunDag) -> None:
    program = "echo quiet-be''gins; sleep 300; echo quiet-en''ds; echo 7 > $MLOPS_OUTPUT_N"
    result = run_dag(HEAD + f'    step("quiet", {program!r}, outputs={{"n": "integer"}}, infra_retries=0)\n')
    assert result.tasks == {"quiet": "success"}, result.log
    assert (result.log.count("quiet-begins"), result.log.count("quiet-ends")) == (1, 1)
    assert result.xcoms["quiet"]["parameters"] == {"n": 7}
    assert containers() == []
