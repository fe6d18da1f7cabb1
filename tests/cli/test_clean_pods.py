# SPDX-License-Identifier: Apache-2.0
"""
``clean`` finds what crashes left in a cluster, and takes nothing else for it.

The task states are those of a real run in a real database, pods and secrets those of a real cluster, asked by an account that has the documented
role. What a crash leaves is laid out by hand, with the names, labels and finalizer that the operators give it, but where a test says otherwise.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

pytest.importorskip("airflow")

from airflow_mlops.artifacts.attempts import KEPT
from tests.cli.support import Terminal
from tests.cli.test_clean_deployment import DAG, Deployment
from tests.parts.docker import INSTANCE_OF_PODS
from tests.parts.namespace import temporary_namespace
from tests.parts.s3 import S3Server, new_bucket

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from tests.parts.airflow_home import RunDag
    from tests.parts.kubernetes import Cluster
    from tests.parts.namespace import Namespace

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

ASKED = "trap 'echo asked > /dev/termination-log; exit 0' TERM; touch /tmp/ready; while :; do sleep 0.1; done"
FINALIZER = "mlops.airflow/harvest"


@dataclass
class InCluster(Deployment):
    """The Airflow of ``test_clean_deployment``, whose pods are in a namespace."""

    namespace: Namespace = None  # type: ignore[assignment] # dataclasses want a default after one
    kubeconfig: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        """Of a person at the deployment's host."""
        return super().environment | {
            "KUBECONFIG": str(self.kubeconfig),
            "DOCKER_HOST": "",
            "AIRFLOW__MLOPS__STAGER_IMAGE": "mlops-stager:1",
            "AIRFLOW__MLOPS__ALLOWED_NAMESPACES": f"{self.namespace.name}, other-*",
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(
                {"conn_type": "kubernetes", "extra": {"namespace": self.namespace.name}}
            ),
        }

    def clear_meanwhile(self, patch: pytest.MonkeyPatch) -> int:
        """The same: the client has read KUBECONFIG when it was imported, perhaps for another test."""
        from kubernetes.config import kube_config

        patch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(self.kubeconfig))
        return super().clear_meanwhile(patch)

    def lost(self, task: str, script: str = "true", *, pod: bool = True, **whose: str) -> Lost:
        """What a worker leaves in the cluster that dies while a step's pod runs or has ended, or before there is a pod."""
        attempt = self.attempt(task, **whose)
        found = Lost(attempt, self.namespace)
        self.namespace.cluster.apply(secret_of(found), *([pod_of(found, script)] if pod else []))
        if pod:
            found.await_start(over=script == "true")
        return found


@dataclass
class Lost:
    """What lies around of one attempt, in the cluster and on disk."""

    attempt: Attempt
    namespace: Namespace

    @property
    def name(self) -> str:
        return f"mlops-{self.attempt.id}"

    @property
    def metadata(self) -> dict[str, Any]:
        from airflow_mlops.operators.kubernetes_names import annotations_of, labels_of

        identity = self.attempt.identity
        return {
            "name": self.name,
            "namespace": self.namespace.name,
            "labels": labels_of(identity, self.attempt.id, "container"),
            "annotations": annotations_of(identity, self.attempt.id) | {"mlops.airflow/stop-grace": "7"},
        }

    @property
    def there(self) -> list[str]:
        """Kinds of what is left of it, as often as there is one."""
        names = self.namespace.left()
        on_disk = [self.attempt.workspace.exists(), self.attempt.store.exists(self.attempt.key)]
        return ["object"] * names.count(self.name) + ["folder"] * sum(on_disk)

    def await_start(self, *, over: bool) -> None:
        wanted = ("Succeeded",) if over else ("Running",)
        self.until(lambda pod: pod["status"]["phase"] in wanted)
        if not over:
            while True:
                with suppress(AssertionError):
                    self.namespace.cluster.kubectl(
                        "exec", "-n", self.namespace.name, self.name, "--", "ls", "/tmp/ready"
                    )
                    return
                time.sleep(0.2)

    def until(self, holds: Any) -> None:
        deadline = time.monotonic() + 60
        while not any(holds(pod) for pod in self.namespace.pods() if pod["metadata"]["name"] == self.name):
            assert time.monotonic() < deadline, self.namespace.pods()
            time.sleep(0.2)


def secret_of(lost: Lost) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": lost.metadata, "stringData": {"env.TOKEN": "sesame"}}


def pod_of(lost: Lost, script: str, **metadata: Any) -> dict[str, Any]:
    container = {
        "name": "step",
        "image": "mlops-busybox:1",
        "command": ["sh", "-c", script],
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": lost.name, "key": "env.TOKEN"}}}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "containers": [container], "securityContext": security}
    spec["terminationGracePeriodSeconds"] = 3600
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**lost.metadata, "finalizers": [FINALIZER], **metadata},
        "spec": spec,
    }


_RUN: list[tuple[Path, str]] = []
"""The one run, which all tests share."""


@pytest.fixture(scope="module")
def place(kubernetes_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with temporary_namespace(kubernetes_cluster, tmp_path_factory.mktemp("accounts")) as made:
        yield made


@pytest.fixture
def deployment(run_dag: RunDag, tmp_path: Path, place: Namespace) -> Iterator[InCluster]:
    if not _RUN:
        settings = {"STORE": f"file://{tmp_path}/store", "WORK_DIR": f"{tmp_path}/work"}
        result = run_dag(DAG, env={f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()})
        assert result.tasks == {"good": "success", "bad": "failed", "late": "failed"}, result.log
        _RUN.append((tmp_path, result.run_id))
    folder, run = _RUN[0]
    made = InCluster(folder, run, namespace=place, kubeconfig=place.person(tmp_path))
    made.sql("update task_instance set end_date = ?, updated_at = ?", *["2026-01-01 00:00:00.000000"] * 2)
    made.sql("update task_instance set state = 'running', end_date = null where task_id = 'late'")
    try:
        yield made
    finally:
        for attempt in made.debris:
            attempt.close()
            attempt.discard()
        place.empty()


def test_what_a_crash_left_of_a_finished_task_is_removed_and_nothing_else(deployment: InCluster) -> None:
    good, bad, late = (deployment.lost(task) for task in ("good", "bad", "late"))
    unknown, foreign = deployment.lost("bad", run="deleted"), deployment.lost("bad", instance="other")
    everything = [good, bad, late, unknown, foreign]
    whole = ["object", "object", "folder", "folder"]
    would = deployment.clean()
    assert would.code == 0, would.err
    assert f"pod {bad.namespace.name}/{bad.name} (tidy {deployment.run} bad): would be removed" in would.out
    assert "6 things would be removed; remove with --yes" in would.out
    assert [lost.there for lost in everything] == [whole] * 5

    done = deployment.clean("--yes")
    assert done.code == 0, done.err
    assert "6 things removed" in done.out
    assert [lost.there for lost in everything] == [[], [], whole, whole, whole]
    assert "left alone, of a task that has not ended: tidy" in done.out
    assert done.out.count("stays: Airflow does not know its task") == 3
    assert foreign.attempt.id not in done.out
    assert "0 things removed" in deployment.clean("--yes").out


def test_a_secret_that_lost_its_pod_is_removed_and_one_that_has_a_pod_goes_with_that(deployment: InCluster) -> None:
    orphan, late = deployment.lost("bad", pod=False), deployment.lost("late", pod=False)
    with_pod = deployment.lost("bad")
    would = deployment.clean()
    assert f"secret {orphan.namespace.name}/{orphan.name} (tidy {deployment.run} bad): would be removed" in would.out
    assert f"secret {with_pod.namespace.name}/{with_pod.name}" not in would.out
    assert deployment.clean("--yes").code == 0
    assert (orphan.there, with_pod.there) == ([], [])
    assert late.there == ["object", "folder", "folder"]


def test_a_program_that_runs_on_stays_until_it_is_asked_for_and_gets_its_grace(deployment: InCluster) -> None:
    bad = deployment.lost("bad", ASKED)
    said = deployment.clean("--yes")
    assert "its program runs; --stop-running ends it" in said.out
    assert len(bad.there) == 4
    assert "would be ended and removed" in deployment.clean("--stop-running").out
    cluster = bad.namespace.cluster
    words = ["get", "pod", "-n", bad.namespace.name, bad.name, "--watch", "--output-watch-events", "-o", "json"]
    watch = subprocess.Popen(
        [cluster.programs / "kubectl", "--kubeconfig", cluster.kubeconfig, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        done = deployment.clean("--yes", "--stop-running")
        assert "3 things removed" in done.out, done.err
        assert bad.there == []
    finally:
        time.sleep(0.5)
        watch.terminate()
        seen = watch.communicate()[0]
    assert '"deletionGracePeriodSeconds":7' in seen
    assert '"message":"asked\\n"' in seen, "it was asked, not killed"


def test_evidence_stays_as_long_as_it_is_to_be_kept(deployment: InCluster) -> None:
    kept, expired = deployment.lost("bad"), deployment.lost("bad")
    for lost, until in ((kept, 4e9), (expired, 1e9)):
        note = json.dumps({"version": 1, "until": until}).encode()
        deployment.store.put_if_absent(f"{lost.attempt.key}/{KEPT}", note)
    said = deployment.clean("--yes")
    assert (len(kept.there), expired.there) == (4, [])
    assert "left alone, kept (keep_failed): tidy" in said.out


def test_a_task_that_is_cleared_meanwhile_keeps_its_pod(
    deployment: InCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = deployment.lost("bad")
    assert deployment.clear_meanwhile(monkeypatch) == 0
    assert len(bad.there) == 4
    assert "stays: of a task that has not ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ("away", "does not answer"),
        ("unknown", "no Kubernetes cluster is known here"),
        ("forbidden", "refused to list the pods of namespace 'default'"),
        ("no connection", "no connection 'nonesuch'"),
    ],
)
def test_where_the_cluster_cannot_be_asked_nothing_is_removed(
    deployment: InCluster, tmp_path: Path, trouble: str, expected: str
) -> None:
    bad = deployment.lost("bad")
    words, environment = ["--yes"], {}
    if trouble == "away":
        broken = json.loads(deployment.kubeconfig.read_text())
        broken["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
        (tmp_path / "broken").write_text(json.dumps(broken))
        environment["KUBECONFIG"] = str(tmp_path / "broken")
    elif trouble == "unknown":
        environment["KUBECONFIG"] = str(tmp_path / "none")
    elif trouble == "forbidden":
        words += ["--namespace", "default"]
    else:
        words += ["--kubernetes-conn-id", "nonesuch"]
    said = deployment.clean(*words, **environment)
    assert said.code == 2, said.out
    assert expected in said.err and "nothing was removed" in said.err
    assert len(bad.there) == 4


def test_no_cluster_is_talked_to_where_the_deployment_can_have_no_pods(deployment: InCluster, tmp_path: Path) -> None:
    bad = deployment.lost("bad")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = json.loads(deployment.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{listener.getsockname()[1]}"
        (tmp_path / "elsewhere").write_text(json.dumps(config))
        environment = {"KUBECONFIG": str(tmp_path / "elsewhere")}
        said = deployment.clean(**environment, AIRFLOW__MLOPS__STAGER_IMAGE="")
        refused = deployment.clean("--no-kubernetes", **environment)
        listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            listener.accept()
    for one in (said, refused):
        assert one.code == 0, one.err
        assert "pods are not looked for" in one.err and "pod " not in one.out
        assert "2 things would be removed" in one.out
    assert "pod " in deployment.clean("--namespace", bad.namespace.name, AIRFLOW__MLOPS__STAGER_IMAGE="").out


def test_each_namespace_that_steps_may_name_is_looked_at(deployment: InCluster) -> None:
    bad = deployment.lost("bad")
    connection = json.dumps({"conn_type": "kubernetes", "extra": {"namespace": deployment.namespace.name}})
    said = deployment.clean(AIRFLOW__MLOPS__ALLOWED_NAMESPACES="default", AIRFLOW_CONN_KUBERNETES_DEFAULT=connection)
    assert said.code == 2 and "namespace 'default'" in said.err
    said = deployment.clean(AIRFLOW_CONN_KUBERNETES_DEFAULT="kubernetes://")
    assert said.code == 2 and "namespace 'default'" in said.err
    said = deployment.clean("--namespace", deployment.namespace.name, AIRFLOW_CONN_KUBERNETES_DEFAULT="kubernetes://")
    assert bad.name in said.out, said.err


def test_an_account_that_may_list_no_secrets_is_told_so_and_removes_pods(deployment: InCluster) -> None:
    bad, orphan = deployment.lost("bad"), deployment.lost("bad", pod=False)
    said = deployment.clean("--yes", KUBECONFIG=str(deployment.namespace.kubeconfig))
    assert said.code == 0, said.err
    assert "this account may not list them" in said.err
    assert (bad.there, orphan.there) == ([], ["object"])


def test_a_pod_of_somebody_else_with_copied_labels_is_not_taken_for_ours(deployment: InCluster) -> None:
    bad = deployment.lost("bad")
    others = pod_of(bad, "true", name="somebodys-own", finalizers=[])
    others["metadata"]["annotations"]["mlops.airflow/run"] = deployment.run
    bad.namespace.cluster.apply(others)
    assert deployment.clean("--yes").code == 0
    assert bad.there == []
    assert "somebodys-own" in deployment.namespace.left()


def test_a_secret_that_an_earlier_try_left_without_a_pod_is_removed_by_the_next(
    run_dag: RunDag, namespace: Namespace, cluster_s3: S3Server
) -> None:
    # A pod that the quota has no room for leaves what a worker leaves that dies before it: the secret alone.
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace.name}}
    namespace.cluster.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    time.sleep(2)
    url, options = new_bucket(cluster_s3)
    settings = {"STORE": url, "STORAGE_OPTIONS": json.dumps(options), "INSTANCE": INSTANCE_OF_PODS}
    settings |= {"STAGER_IMAGE": "mlops-stager:1", "ALLOWED_NAMESPACES": "*"}
    result = run_dag(
        ORPHANS.replace("NAMESPACE", repr(namespace.name)),
        env={"KUBECONFIG": str(namespace.kubeconfig)}
        | {f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()},
    )
    assert result.tasks == {"fit": "failed"}
    assert result.log.count("exceeded quota") >= 3, result.log[-6000:]
    assert result.log.count("whose worker died before there was a pod") == 2
    assert len(namespace.left()) == 1, "that of the last try, which no other one follows"


ORPHANS = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import KubernetesContainerOperator
with DAG("orphans", schedule=None) as dag:
    KubernetesContainerOperator(task_id="fit", image="mlops-busybox:1", command=["true"], namespace=NAMESPACE, infra_retries=2,
                                retry_delay=timedelta(seconds=0), outputs={"data": "dataset"})
"""

SPEC = """\
apiVersion: mlops/v1
name: words
defaults: {image: "mlops-busybox:1", kubernetes: {namespace: NAMESPACE}, runtime: kubernetes}
steps:
  - {name: long, kind: container, command: [sh, -c, 'sleep 600 & wait'], outputs: {data: dataset}}
"""


@pytest.fixture
def killed(namespace: Namespace, cluster_s3: S3Server, tmp_path: Path) -> tuple[Terminal, dict[str, str]]:
    """A user whose run was killed while its pod ran, and what their environment says."""
    user = Terminal(tmp_path / "user")
    user.home.mkdir()
    (user.home / "words.yaml").write_text(SPEC.replace("NAMESPACE", namespace.name))
    url, options = new_bucket(cluster_s3)
    settings = {"STAGER_IMAGE": "mlops-stager:1", "ALLOWED_NAMESPACES": "*", "STORAGE_OPTIONS": json.dumps(options)}
    settings["STORE"] = url
    environment = {f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()}
    environment["KUBECONFIG"] = str(namespace.kubeconfig)
    process = user.start("run", "words.yaml", **environment)
    try:
        deadline = time.monotonic() + 90
        while not any(pod["status"]["phase"] == "Running" for pod in namespace.pods()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.3)
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in reversed(family):
            with suppress(psutil.Error):
                one.send_signal(signal.SIGKILL)
        process.communicate()
    return user, environment


def test_clean_of_a_local_run_that_was_killed_ends_its_pod(
    killed: tuple[Terminal, dict[str, str]], namespace: Namespace, tmp_path: Path
) -> None:
    user, environment = killed
    assert len(namespace.left()) == 2
    said = user.run("clean", "--all", "--yes", **environment | {"KUBECONFIG": str(tmp_path / "none")})
    assert said.code == 1
    assert "so " in said.err and "stays" in said.err and "no Kubernetes cluster is known here" in said.err
    assert len(namespace.left()) == 2 and [*user.home.glob("mlops/runs/*")] != []
    said = user.run("clean", "--all", "--yes", **environment)
    assert said.code == 0, said.out + said.err
    assert f"pod {namespace.name}/mlops-" in said.out
    assert namespace.left() == [] and [*user.home.glob("mlops/runs/*")] == []
