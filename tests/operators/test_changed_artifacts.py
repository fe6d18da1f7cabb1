# SPDX-License-Identifier: Apache-2.0
"""What is committed can be relied on: changed files, forged references and a full disk are met before a step reads or commits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG = """
import os
from datetime import timedelta
from pathlib import Path
from airflow.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from airflow_mlops.operators import ProcessContainerOperator, ProcessPreprocessOperator
from airflow_mlops.operators.artifact_arg import ArtifactXComArg

def change():
    (path,) = Path(os.environ["AIRFLOW__MLOPS__STORE"].removeprefix("file://")).glob("**/outputs/OUTPUT")
    path.chmod(0o644)
    CHANGE

def forge(ti):
    reference = ti.xcom_pull("make")
    FORGE
    return reference

with DAG("changed", schedule=None) as dag:
    make = ProcessPreprocessOperator(
        task_id="make",
        command=["sh", "-c", "echo rows > $MLOPS_OUTPUT_DATA; mkdir $MLOPS_OUTPUT_TREE; cd $MLOPS_OUTPUT_TREE; echo 1 > a; echo 2 > b"],
        outputs={"data": "dataset", "tree": "dataset"},
    )
    changed = PythonOperator(task_id="change", python_callable=change)
    forged = PythonOperator(task_id="forge", python_callable=forge)
    use = ProcessContainerOperator(
        task_id="use", command=["sh", "-c", "cat $MLOPS_INPUT_DATA $MLOPS_INPUT_TREE/*"],
        inputs={"data": ArtifactXComArg(operator=forged, output="data"), "tree": ArtifactXComArg(operator=forged, output="tree")},
    )
    make >> changed >> forged >> use
"""


def dag(output: str = "data", change: str = "pass", forge: str = "pass") -> str:
    return DAG.replace('OUTPUT")', f'{output}")').replace("CHANGE", change).replace("FORGE", forge)


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    named = {f"AIRFLOW__MLOPS__{name.upper()}": value for name, value in more.items()}
    return {"AIRFLOW__MLOPS__STORE": f"file://{tmp_path}/store", **named}


def test_what_nobody_changed_is_read(run_dag: RunDag, tmp_path: Path) -> None:
    result = run_dag(dag(), env=settings(tmp_path, verify="always"))
    assert set(result.tasks.values()) == {"success"}, result.log


@pytest.mark.parametrize(
    ("how", "output", "change", "refused"),
    [
        ("auto", "data", "path.write_text('ROWS\\n')", "outputs/data was changed"),
        ("always", "tree/b", "path.write_text('3\\n')", "outputs/tree/b was changed"),
        ("always", "tree/b", "path.unlink()", "outputs/tree/b was changed"),
        ("always", "tree/b", "path.with_name('c').write_text('')", "outputs/tree/c was changed"),
        ("size", "data", "path.write_text('ro')", "outputs/data was changed"),
        ("size", "data", "path.write_text('ROWS\\n')", None),
        ("never", "data", "path.write_text('anything at all')", None),
    ],
)
def test_a_changed_file_is_refused_by_name(
    run_dag: RunDag, tmp_path: Path, how: str, output: str, change: str, refused: str | None
) -> None:
    result = run_dag(dag(output, change), env=settings(tmp_path, verify=how))
    assert result.tasks["use"] == ("failed" if refused else "success"), result.log
    assert refused is None or (refused in result.log and "not retried" in result.log)


@pytest.mark.parametrize(
    ("forge", "refused"),
    [
        ("reference['artifacts']['data']['uri'] = 'file:///etc/passwd'", "holds no such artifact"),
        ("reference['manifest'] = 'file:///etc/passwd'", "does not lie in the store"),
        ("reference['sha256'] = '0' * 64", "it was changed since"),
        ("reference['artifacts']['data']['digest'] = 'sha256:' + '0' * 64", "holds no such artifact"),
        ("reference = 'rows'", "not the result of a step"),
    ],
)
def test_an_xcom_that_was_edited_is_refused(run_dag: RunDag, tmp_path: Path, forge: str, refused: str) -> None:
    result = run_dag(dag(forge=forge), env=settings(tmp_path))
    assert result.tasks["use"] == "failed", result.log
    assert refused in result.log, result.log[-3000:]
    assert "root:" not in result.log


FULL = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import ProcessContainerOperator
FILL = "[ -e SEEN ] && echo rows > $MLOPS_OUTPUT_DATA || dd if=/dev/zero of=$MLOPS_OUTPUT_DATA bs=64k 2>/dev/null; touch SEEN"
with DAG("full", schedule=None) as dag:
    ProcessContainerOperator(task_id="fill", command=["sh", "-c", FILL], outputs={"data": "dataset"}, retry_delay=timedelta(0))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB; what is mounted here is unmounted here."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_commits_nothing_and_the_next_try_does(run_dag: RunDag, tmp_path: Path, small_disk: Path) -> None:
    text = FULL.replace("SEEN", str(tmp_path / "seen"))
    result = run_dag(text, env={"AIRFLOW__MLOPS__STORE": f"file://{small_disk}/store"})
    assert "No space left on device" in result.log
    assert "infrastructure" in result.log
    assert result.tasks == {"fill": "success"}, result.log
    files = [path for path in (small_disk / "store").rglob("*") if path.is_file()]
    assert [path.read_text() for path in files if path.name == "data"] == ["rows\n"]
    assert not [path for path in files if path.name.startswith(".put-")]
