# SPDX-License-Identifier: Apache-2.0
"""Process steps in hand-written DAGs, run by Airflow's own task runner."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest

from tests.parts.processes import is_alive

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

HEAD = """
    from airflow.sdk import DAG, task
    from airflow_mlops.operators import ProcessContainerOperator, ProcessPreprocessOperator, ProcessTrainOperator
    dag = DAG("steps", schedule=None)
    def step(task_id, script, cls=ProcessContainerOperator, **kwargs):
        return cls(task_id=task_id, command=["sh", "-c", script], dag=dag, **kwargs)
"""


def path_of(uri: str) -> Path:
    return Path(urlsplit(uri).path)


def test_outputs_reach_the_next_step_and_are_committed_read_only(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    make = step(
        "make",
        "echo a,b > {{ outputs.train.path }}; mkdir $MLOPS_OUTPUT_MODEL; echo w > $MLOPS_OUTPUT_MODEL/weights; echo 5 > $MLOPS_OUTPUT_ROWS",
        outputs={"train": {"type": "dataset", "file": "train.csv"}, "model": "model", "rows": "integer"},
    )
    use = step(
        "use",
        "grep -q a,b {{ inputs.train.path }} && grep -q w $MLOPS_INPUT_MODEL/weights"
        " && test {{ inputs.rows }} = 5 && test $MLOPS_PARAM_ROWS = 5 && test -s $MLOPS_STEP_JSON",
        inputs={"train": make.artifact("train"), "model": make.artifact("model"), "rows": make.artifact("rows")},
    )
    """
    )
    assert result.tasks == {"make": "success", "use": "success"}, result.log
    reference = result.xcoms["make"]
    assert reference["parameters"] == {"rows": 5}
    train = path_of(reference["artifacts"]["train"]["uri"])
    assert train.name == "train.csv"
    assert train.read_text() == "a,b\n"
    assert train.stat().st_mode & 0o222 == 0
    assert reference["artifacts"]["model"]["digest"].startswith("sha256-tree:")
    manifest = json.loads(path_of(reference["manifest"]).read_text())
    assert manifest["step"] == "make"
    assert manifest["generation"] == 1


def test_a_program_sees_none_of_airflows_environment(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("look", "env > $MLOPS_OUTPUT_SEEN; echo x > $HOME/y && echo x > $TMPDIR/z", outputs={"seen": "string"}, env={"OWN": "1"})
    """,
        env={"AIRFLOW_CONN_SECRET": "postgres://u:p@h/d", "SOME_TOKEN": "t0ken"},
    )
    assert result.state == "success", result.log
    seen = result.xcoms["look"]["parameters"]["seen"]
    assert "OWN=1" in seen
    assert "AIRFLOW" not in seen
    assert "SOME_TOKEN" not in seen


def test_a_missing_output_fails_the_step_and_names_what_was_written(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("fit", "echo 1 > ${MLOPS_OUTPUT_MODEL}s", cls=ProcessTrainOperator, outputs={"model": "model"})
    """
    )
    assert result.tasks == {"fit": "failed"}
    assert "output 'model' was not written" in result.log
    assert "models" in result.log
    assert "no retry left: retries is 0" in result.log


def test_a_failed_program_leaves_nothing_in_the_store_and_its_exit_code_in_the_log(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("bad", "echo half > $MLOPS_OUTPUT_DATA; exit 3", outputs={"data": "dataset"})
    """
    )
    assert result.tasks == {"bad": "failed"}
    assert "ended with exit code 3" in result.log
    assert "bad" not in result.xcoms
    store = path_of(os.environ["AIRFLOW__MLOPS__STORE"])
    left = [p for p in store.rglob("*") if p.name == "data" and "bad" in str(p)]
    assert left == []


CANNOT_START = {
    '["no-such-program"]': "cannot run 'no-such-program': No such file or directory; expected a program of the source folder",
    '["{folder}/no-interpreter"]': "Exec format error; expected a program for this machine, or a script whose first line names",
    '["{folder}/not-executable"]': "Permission denied; expected a file that may be executed (chmod +x)",
    '["true"], venv="{folder}/no-venv"': "no-venv/bin/python does not exist on this worker; expected a virtual environment",
    '["true"], env={"BIG": "x" * 200_000}': "The largest: BIG (200003 bytes)",
    '["true"], parameters={"p": "a\\0b"}': "MLOPS_PARAM_P holds a NUL character",
    '["echo", "a\\0b"]': "argument 1 holds a NUL character",
}  # fmt: skip


def test_what_cannot_start_is_not_retried(run_dag: RunDag, tmp_path: Path) -> None:
    for name, mode in (("no-interpreter", 0o755), ("not-executable", 0o644)):
        (tmp_path / name).write_text("echo no\n")
        (tmp_path / name).chmod(mode)
    steps = "".join(
        f'    ProcessContainerOperator(task_id="t{number}", retries=3, retry_delay=1, dag=dag, command={arguments})\n'
        for number, arguments in enumerate(CANNOT_START)
    )
    result = run_dag(HEAD + "\n" + steps.replace("{folder}", str(tmp_path)))
    assert result.tasks == {f"t{number}": "failed" for number in range(len(CANNOT_START))}
    assert [says for says in CANNOT_START.values() if says not in result.log] == []
    assert result.log.count("a retry could not cure it") >= len(CANNOT_START)


def test_a_child_that_left_its_session_cannot_change_what_was_committed(run_dag: RunDag, tmp_path: Path) -> None:
    late = f"echo $$ > {tmp_path}/pid; sleep 600; echo bad > $target"
    program = f"target=$(readlink -f $MLOPS_OUTPUT_D); export target; echo good > $target; setsid sh -c '{late}' >/dev/null 2>&1 &"
    program += f" until [ -s {tmp_path}/pid ]; do sleep 0.05; done"
    result = run_dag(
        HEAD
        + f'    step = ProcessContainerOperator(task_id="step", command=["sh", "-c", {program!r}], outputs={{"d": "dataset"}}, dag=dag)'
    )
    assert result.state == "success", result.log
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_secret_in_the_name_of_an_output_is_written_down_nowhere(run_dag: RunDag, tmp_path: Path) -> None:
    program = "mkdir $MLOPS_OUTPUT_D; ln -s x $MLOPS_OUTPUT_D/$TOKEN"
    result = run_dag(
        HEAD
        + f'    step = ProcessContainerOperator(task_id="step", command=["sh", "-c", {program!r}], outputs={{"d": "dataset"}}, '
        + 'secrets={"TOKEN": {"variable": "token", "as": "env"}}, dag=dag)',
        env={"AIRFLOW_VAR_TOKEN": "sesame-open", "AIRFLOW__MLOPS__STORE": f"file://{tmp_path}/store"},
    )
    assert result.state == "failed"
    (record,) = tmp_path.glob("store/**/failure-1.json")
    assert "d/*** is a symbolic link" in record.read_text()
    assert "sesame-open" not in record.read_text() and "sesame-open" not in result.log


def test_a_timeout_ends_the_whole_session_of_the_program(run_dag: RunDag, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    result = run_dag(
        HEAD
        + f"""
    from datetime import timedelta
    step("slow", "(trap '' TERM; echo $$ > {mark}; sleep 600) & wait", step_timeout=timedelta(seconds=2))
    """
    )
    assert result.tasks == {"slow": "failed"}
    assert "longer than its timeout of 2 s" in result.log
    session = int(mark.read_text())
    alive = [p for p in psutil.process_iter() if p.status() != psutil.STATUS_ZOMBIE and os.getpgid(p.pid) == session]
    assert alive == []


def test_airflows_own_timeout_is_charged_to_the_retries_of_the_step(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    from datetime import timedelta
    step("slow", "echo began; sleep 600", execution_timeout=timedelta(seconds=3), retries=1, retry_delay=timedelta(0))
    """
    )
    assert result.tasks == {"slow": "failed"}
    assert (
        result.log.count(
            "timeout: step 'slow' took longer than its execution_timeout of 3 s and was stopped (retry 1 of 1)"
        )
        >= 1
    )
    assert "(no retry left: retries is 1)" in result.log


def test_each_instance_of_a_mapped_step_commits_for_itself(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    ProcessContainerOperator.partial(
        task_id="many", command=["sh", "-c", "echo {{ outputs.n.path }}; printf $N > $MLOPS_OUTPUT_N"], outputs={"n": "integer"}, dag=dag
    ).expand(env=[{"N": "1"}, {"N": "2"}])
    """
    )
    assert result.tasks == {"many[0]": "success", "many[1]": "success"}, result.log
    assert [result.xcoms[f"many[{n}]"]["parameters"]["n"] for n in (0, 1)] == [1, 2]
    assert result.xcoms["many[0]"]["manifest"] != result.xcoms["many[1]"]["manifest"]


def test_steps_in_a_mapped_group_read_their_own_iteration(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    from airflow.sdk import task_group
    with dag:
        @task_group
        def each(n):
            write = ["sh", "-c", "printf $N > $MLOPS_OUTPUT_N"]
            make = ProcessPreprocessOperator(task_id="make", command=write, env={"N": n}, outputs={"n": "integer"})
            again = ["sh", "-c", "printf {{ inputs.n }} > $MLOPS_OUTPUT_SAME"]
            inputs = {"n": make.artifact("n")}
            ProcessContainerOperator(task_id="use", command=again, inputs=inputs, outputs={"same": "integer"})
        each.expand(n=["7", "8"])
    """
    )
    assert result.state == "success", result.log
    assert [result.xcoms[f"each.use[{n}]"]["parameters"]["same"] for n in (0, 1)] == [7, 8]


def test_a_secret_is_a_file_that_only_its_owner_reads_and_is_masked_in_the_log(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step(
        "hush",
        "stat -L -c %a $MLOPS_SECRET_TOKEN; echo it is $(cat $MLOPS_SECRET_TOKEN); env | grep -c 'hus[h]-hush' || true",
        secrets={"TOKEN": {"variable": "token"}},
    )
    """,
        env={"AIRFLOW_VAR_TOKEN": "hush-hush-value"},
    )
    assert result.state == "success", result.log
    assert "400" in result.log
    assert "it is ***" in result.log
    assert "hush-hush-value" not in result.log


@pytest.mark.parametrize("word", ["${#COUNT}", "{{ nothing_of_that_name.at_all }}", "{{ 1 / 0 }}"])
def test_a_template_that_does_not_render_is_not_retried(run_dag: RunDag, word: str) -> None:
    result = run_dag(HEAD + f"    step('bad', 'echo ' + {word!r}, retries=3)\n")
    assert result.tasks == {"bad": "failed"}
    assert "a template cannot be rendered" in result.log
    assert "a retry could not cure it" in result.log


def test_a_store_that_cannot_be_reached_uses_the_infrastructure_budget_up(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + "    from datetime import timedelta\n    step('bad', 'true', infra_retries=1, retry_delay=timedelta(seconds=1))\n",
        env={"AIRFLOW__MLOPS__STORE": "file:///proc/nowhere", "AIRFLOW__MLOPS__INSTANCE": "tests"},
    )
    assert result.tasks == {"bad": "failed"}
    assert "infrastructure" in result.log
    assert "no retry left: infra_retries is 1" in result.log


def test_what_fails_after_the_commit_takes_nothing_away_and_the_next_try_publishes_it(run_dag: RunDag) -> None:
    # A disk that fails at that moment cannot be had on command, so the call is replaced by one that fails.
    result = run_dag(
        HEAD
        + """
    from datetime import timedelta
    import airflow_mlops.operators.publish
    def no_disk(folder):
        raise OSError("no such disk")
    airflow_mlops.operators.publish.protect = no_disk
    step("make", "echo kept > $MLOPS_OUTPUT_D", outputs={"d": "dataset"}, infra_retries=1, retry_delay=timedelta(seconds=1))
    """
    )
    assert result.tasks == {"make": "success"}, result.log
    assert "no such disk" in result.log
    assert "has committed already" in result.log
    assert path_of(result.xcoms["make"]["artifacts"]["d"]["uri"]).read_text() == "kept\n"
