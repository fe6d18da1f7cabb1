# SPDX-License-Identifier: Apache-2.0
"""What a failed program leaves is kept for as long as its step says, and no longer."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts import Store, Try
from airflow_mlops.artifacts.attempts import KEPT
from airflow_mlops.operators.adoption import clear_evidence
from airflow_mlops.operators.attempt import Attempt
from airflow_mlops.operators.identity import TaskIdentity
from airflow_mlops.operators.settings import Settings
from tests.parts.docker import containers

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import KINDContainerOperator
PROGRAM = "echo half > $MLOPS_OUTPUT_DATA; echo scratch > $HOME/note; n=$(cat SEEN | wc -l); echo x >> SEEN; [ $n = 2 ] || exit 9"
with DAG("kept", schedule=None) as dag:
    KINDContainerOperator(
        task_id="step", image="mlops-busybox:1", command=["sh", "-c", PROGRAM], outputs={"data": "dataset"}, retries=2,
        retry_delay=timedelta(seconds=DELAY), keep_failed=timedelta(seconds=KEEP), volumes=[{"source": "FOLDER", "target": "FOLDER"}],
    )
"""


def run(run_dag: RunDag, folder: Path, kind: str, keep: int, delay: float) -> str:
    """Two failures, then a success; its log."""
    (folder / "seen").touch()
    text = DAG.replace("KIND", kind).replace("SEEN", str(folder / "seen")).replace("FOLDER", str(folder))
    if kind == "Process":
        text = text.replace(f', volumes=[{{"source": "{folder}", "target": "{folder}"}}]', "")
    settings = {"STORE": f"file://{folder}/store", "WORK_DIR": f"{folder}/work", "ALLOWED_VOLUMES": str(folder)}
    env = {f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()}
    result = run_dag(text.replace("KEEP", str(keep)).replace("DELAY", str(delay)), env=env)
    assert result.tasks == {"step": "success"}, result.log
    return result.log


def left(folder: Path) -> int:
    """How many failed attempts can be looked at: scratch space and outputs of each."""
    scratch = [path.parents[1].name for path in (folder / "work").glob("mlops-*/tmp/note")]
    outputs = [path.parents[1].name for path in (folder / "store").glob("**/outputs/data")]
    kept = {name.removeprefix("mlops-") for name in scratch}
    assert kept <= set(outputs)
    return len(kept)


@pytest.mark.docker
def test_evidence_is_kept_over_the_retry_and_removed_when_its_time_is_over(
    run_dag: RunDag, tmp_path: Path, docker_daemon: str, busybox_image: str
) -> None:
    (tmp_path / "long").mkdir()
    (tmp_path / "short").mkdir()
    log = run(run_dag, tmp_path / "long", "Docker", 3600, 0)
    try:
        assert left(tmp_path / "long") == 2
        assert len(containers()) == 2
        assert "docker logs mlops-" in log
    finally:
        subprocess.run(["docker", "rm", "-f", *containers()], check=True, stdout=subprocess.DEVNULL)
    run(run_dag, tmp_path / "short", "Docker", 1, 2)
    assert left(tmp_path / "short") == 0
    assert containers() == []


def test_a_process_s_files_are_kept(run_dag: RunDag, tmp_path: Path) -> None:
    began = time.time()
    run(run_dag, tmp_path, "Process", 3600, 0)
    assert left(tmp_path) == 2
    untils = [json.loads(path.read_text())["until"] for path in tmp_path.glob("store/**/kept.json")]
    assert [began + 3600 < until + 1 < time.time() + 3602 for until in untils] == [True, True]


def test_evidence_of_an_earlier_generation_goes_when_its_time_is_over(tmp_path: Path) -> None:
    current = Try(id="2", map_index=-1, try_number=3, max_tries=3, retries=0, clears=1, run_started=0.0)
    identity = TaskIdentity(instance="i", dag_id="d", run_id="r", task_id="t", current=current, generation=3)
    store, old = Store.open(f"file://{tmp_path}/store"), replace(identity.place, generation=1)
    attempt = Attempt.plan(identity, store, Settings(store.url, work_dir=tmp_path), "c" * 12)
    for name, note in (("a" * 12, {"until": 1}), ("b" * 12, {"until": time.time() + 60}), ("d" * 12, None)):
        store.put_if_absent(f"{old.attempt_key(name)}/outputs/data", b"half")
        (tmp_path / f"mlops-{name}").mkdir()
        if note:
            store.put_if_absent(f"{old.attempt_key(name)}/{KEPT}", json.dumps(note).encode())
    clear_evidence(attempt)
    assert [store.exists(f"{old.attempt_key(name * 12)}/outputs/data") for name in "abd"] == [False, True, True]
    assert [(tmp_path / f"mlops-{name * 12}").exists() for name in "abd"] == [False, True, True]
