# SPDX-License-Identifier: Apache-2.0
"""Pods that are waited for in the triggerer: what is stored of the wait, and that it comes to the same as a worker's own."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow")
pytest.importorskip("kubernetes")

from airflow_mlops.operators import KubernetesContainerOperator
from airflow_mlops.operators.failures import InfrastructureFailure, StepTimeout
from airflow_mlops.operators.kubernetes_course import Course, Deed
from airflow_mlops.operators.kubernetes_state import status_of
from airflow_mlops.operators.kubernetes_trigger import PodTrigger, Report
from airflow_mlops.operators.log_following import Shown
from airflow_mlops.operators.settings import load_settings
from tests.operators.test_kubernetes import SECRETS, WHY, Deployment, on_s3, on_volume
from tests.operators.test_kubernetes_state import NOW, ended, pod, program
from tests.parts.s3 import SECRET

if TYPE_CHECKING:
    from tests.parts.mlflow import MlflowServer

__all__ = ["on_s3", "on_volume"]

WAIT: dict[str, Any] = {
    "attempt": "a1",
    "began": 1.5,
    "step": "fit",
    "name": "mlops-a1",
    "namespace": "ml",
    "cluster": {"kubernetes_conn_id": "eu"},
    "secrets": {"TOKEN": {"variable": "token", "as": "env"}},
    "step_timeout": 60.0,
    "execution_deadline": None,
    "checkpoint": False,
    "grace": 10,
    "start_patience": 3600,
    "daemon_patience": 300,
}


def test_a_trigger_is_made_anew_of_what_is_stored_of_it() -> None:
    path, stored = PodTrigger(**WAIT).serialize()
    assert path == "airflow_mlops.operators.kubernetes_trigger.PodTrigger"
    assert json.loads(json.dumps(stored)) == WAIT
    assert PodTrigger(**stored).serialize() == (path, stored)


def test_a_report_is_read_as_it_was_sent() -> None:
    report = Report("a1", 1.5, Shown("2026-01-01T00:00:00.0Z", 2), stopped_late=True)
    assert Report.of(json.loads(json.dumps(report.event()))) == report
    assert Report.of({"attempt": "a1", "began": 1.5}) == Report("a1", 1.5)


@pytest.mark.parametrize(
    ("ours", "airflows", "found"),
    [(None, None, False), (None, "True", True), ("false", "True", False), ("True", None, True)],
)
def test_a_deployment_defers_as_airflow_does_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, ours: str | None, airflows: str | None, found: bool
) -> None:
    if ours is not None:
        monkeypatch.setenv("AIRFLOW__MLOPS__DEFERRABLE", ours)
    if airflows is not None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", airflows)
    assert load_settings().deferrable is found


def course(**keywords: Any) -> Course:
    given = {"step_timeout": 60.0, "checkpoint": False, "start_patience": 60, "pull_patience": 60, "say": print}
    return Course("fit", **{**given, **keywords})


class TestCourse:
    STARTED = NOW - timedelta(seconds=100)

    def killed(self, asked: timedelta) -> Any:
        """A pod whose program was killed after it was deleted, so long after its start."""
        state = ended(137)
        state["terminated"] |= {"startedAt": self.STARTED, "finishedAt": self.STARTED + asked}
        grace = 10
        gone = {
            "deletionTimestamp": self.STARTED + asked + timedelta(seconds=grace),
            "deletionGracePeriodSeconds": grace,
        }
        return pod({"phase": "Failed", **program(**state)}, **gone)

    def test_a_program_that_was_stopped_after_its_time_has_timed_out_whoever_stopped_it(self) -> None:
        found = self.killed(timedelta(seconds=60))
        with pytest.raises(StepTimeout, match="longer than its timeout of 60 s"):
            course().look(found, status_of(found, "fit"))

    def test_a_program_that_was_deleted_in_time_has_not_timed_out(self) -> None:
        found = self.killed(timedelta(seconds=59))
        with pytest.raises(InfrastructureFailure, match="deleted by somebody else"):
            course().look(found, status_of(found, "fit"))
        with pytest.raises(StepTimeout):
            # The clocks of the node and of the triggerer may differ; who stopped it knows why.
            course(stopped_late=True).look(found, status_of(found, "fit"))

    def test_a_program_without_a_timeout_never_times_out(self) -> None:
        found = self.killed(timedelta(days=1))
        with pytest.raises(InfrastructureFailure):
            course(step_timeout=None).look(found, status_of(found, "fit"))

    def test_a_program_whose_time_is_over_is_to_be_stopped(self) -> None:
        found = pod({"phase": "Running", **program(running={"startedAt": self.STARTED})})
        assert course().look(found, status_of(found, "fit")) is Deed.STOP
        assert course(step_timeout=None).look(found, status_of(found, "fit")) is Deed.WAIT


CLUSTER = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.s3]


def on_cluster(test: Any) -> Any:
    for mark in CLUSTER:
        test = mark(test)
    return test


def deferred(deployment: Deployment, steps: str, **settings: Any) -> Any:
    """Run steps whose pods are waited for in the triggerer, and see that they were."""
    result = deployment.run(steps, deferrable=True, **settings)
    assert "The triggerer waits for pod mlops-" in result.log, result.log[-6000:]
    return result


CHAIN = """
write = "echo first line; echo rows > $MLOPS_OUTPUT_DATA; printf 7 > $MLOPS_OUTPUT_N; sleep 3; echo last line"
make = step("make", write, outputs={"data": "dataset", "n": "integer"}, source=SOURCE, checkpoint=True)
step("use", "cat $MLOPS_INPUT_DATA; echo n=$MLOPS_PARAM_N", inputs={"data": make.artifact("data"), "n": make.artifact("n")})
"""


@on_cluster
@pytest.mark.parametrize("place", ["on_s3", "on_volume"])
def test_artifacts_are_handed_on_and_each_line_is_shown_once(
    place: str, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    deployment: Deployment = request.getfixturevalue(place)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "fit.sh").write_text("true\n")
    result = deferred(deployment, CHAIN.replace("SOURCE", repr(str(tmp_path / "src"))), work_dir=tmp_path / "work")
    assert result.tasks == {"make": "success", "use": "success"}, result.log[-8000:]
    assert result.xcoms["make"]["parameters"] == {"n": 7}
    for line in ("first line", "last line", "rows", "n=7"):
        assert sum(f"] {line}" in shown or f"] {line} " in shown for shown in result.log.splitlines()) == 1, line
    assert deployment.namespace.left() == []
    assert [*(tmp_path / "work").iterdir()] == []


@on_cluster
def test_what_goes_wrong_has_the_same_class_and_reason(on_s3: Deployment) -> None:
    result = deferred(
        on_s3,
        """
KubernetesContainerOperator(task_id="no-program", image="mlops-busybox:1", command=["nonesuch"], namespace=NAMESPACE)
KubernetesContainerOperator(task_id="no-image", image="mlops-none:1", command=["true"], namespace=NAMESPACE, image_pull_policy="Never")
step("greedy", "tail /dev/zero", memory="32Mi")
step("late", "sleep 600", step_timeout=timedelta(seconds=2), stop_grace=timedelta(seconds=1))
step("fail", "echo written > $MLOPS_OUTPUT_DATA; echo last words >&2; exit 7", outputs={"data": "dataset"})
step("missing", "true", outputs={"data": "dataset"})
step("overdue", "sleep 600", execution_timeout=timedelta(seconds=9), stop_grace=timedelta(seconds=1))
""".replace("NAMESPACE", repr(on_s3.namespace.name)),
    )
    assert set(result.tasks.values()) == {"failed"}, result.log[-6000:]
    for step in ("no-program", "no-image", "greedy", "late"):
        assert WHY[step] in result.log
    assert "user-code: step 'fail': its program ended with exit code 7" in result.log and "last words" in result.log
    assert "outputs: step 'missing': output 'data' was not written" in result.log
    assert "timeout: step 'overdue' took longer than its execution_timeout of 9 s" in result.log
    assert on_s3.files() == []
    assert on_s3.namespace.left() == []


@on_cluster
def test_secrets_are_shown_and_stored_nowhere(on_s3: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_TOKEN", "sesame-one")
    monkeypatch.setenv("AIRFLOW_VAR_KEY", "sesame-two")
    result = deferred(on_s3, SECRETS)
    assert "token ***" in result.log
    assert not any(secret in result.log for secret in ("sesame", SECRET))


@on_cluster
def test_a_step_that_another_process_ends_is_tracked(
    on_s3: Deployment, monkeypatch: pytest.MonkeyPatch, mlflow_server: MlflowServer
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("AIRFLOW__MLOPS__MLFLOW_CONN_ID", "tracker")
    monkeypatch.setenv("AIRFLOW_CONN_TRACKER", mlflow_server.url.replace("http://", "http://ada:sesame@"))
    program = """echo $MLFLOW_RUN_ID $MLFLOW_TRACKING_PASSWORD; echo '{"auc": 0.9}' > $MLOPS_OUTPUT_METRICS"""
    result = deferred(on_s3, f'step("fit", {program!r}, outputs={{"metrics": "metrics"}})')
    assert result.tasks == {"fit": "success"}, result.log[-6000:]
    client = MlflowClient(mlflow_server.url)
    runs = client.search_runs([client.get_experiment_by_name("pods").experiment_id])
    (fit,) = [run for run in runs if run.info.run_name == "fit"]
    assert (fit.info.status, fit.data.metrics) == ("FINISHED", {"auc": 0.9})
    assert f"{fit.info.run_id} ***" in result.log and "sesame" not in result.log


@on_cluster
def test_an_operator_may_say_for_itself_whether_it_defers(on_s3: Deployment) -> None:
    result = on_s3.run('step("a", "true", deferrable=True)\nstep("b", "true", deferrable=False)')
    assert set(result.tasks.values()) == {"success"}
    assert result.log.count("The triggerer waits for pod") == 1


def test_deferrable_is_a_word_of_our_operators_and_not_of_the_providers() -> None:
    step: Any = KubernetesContainerOperator(task_id="fit", image="busybox:1", command=["true"], deferrable=True)
    assert step.deferrable is True and "deferrable" not in step.pod_keywords


@on_cluster
def test_a_flood_of_output_holds_up_nobody_and_is_shown_in_the_end(on_s3: Deployment) -> None:
    # A node that is short of time loses what a program prints right before its end, so this one ends a little later.
    program = "seq 1000000 1039999 | sed 's/$/ a line of some length that is printed as often as no other/'; sleep 3; echo the end"
    result = deferred(on_s3, f'step("flood", {program!r})')
    assert result.tasks == {"flood": "success"}
    shown = re.findall(r"\] (10[0-3]\d{4}) a line of some", re.sub(r"\x1b\[[0-9;]*m", "", result.log))
    assert [*map(int, shown)] == [*range(1_000_000, 1_040_000)], result.log[-2000:]
    assert "] the end" in re.sub(r"\x1b\[[0-9;]*m", "", result.log)
