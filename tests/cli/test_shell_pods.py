# SPDX-License-Identifier: Apache-2.0
"""``shell`` opens a pod like the one that a step had: real runs, a real cluster, and a person whose account has the documented role."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow")

from tests.cli.support import PATIENCE, Said, Terminal
from tests.cli.test_shell import LOOK, MAKE, SECRETS, read_until
from tests.cli.test_shell import SPEC as ANY_SPEC
from tests.cli.test_shell import visitor as on_a_terminal
from tests.parts.namespace import temporary_namespace
from tests.parts.s3 import S3Server, new_bucket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.airflow_home import RunDag
    from tests.parts.kubernetes import Cluster
    from tests.parts.namespace import Namespace

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@dataclass
class Visitor:
    """
    Somebody whose pipeline has failed at its second step, a pod; its code was edited since.

    :param settings: variables of their environment
    :param store: the folder of the server that holds their artifacts
    """

    user: Terminal
    namespace: Namespace
    settings: dict[str, str]
    store: Path

    def shell(self, *command: str, **environment: str) -> Said:
        return self.user.run("shell", "last", "measure", "--", *command, **self.settings, **environment)

    def left(self) -> list[str]:
        """Pods, secrets and folders of visits."""
        return [*self.namespace.left(), *map(str, (self.user.home / "tmp").glob("mlops-*"))]

    def files(self) -> list[tuple[str, int]]:
        """What the store holds."""
        return sorted((str(path), path.stat().st_size) for path in self.store.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def place(kubernetes_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with temporary_namespace(kubernetes_cluster, tmp_path_factory.mktemp("accounts")) as made:
        yield made


@pytest.fixture(scope="module")
def visitor(place: Namespace, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Visitor:
    home = tmp_path_factory.mktemp("user")
    (home / "src").mkdir()
    (home / "src" / "make.sh").write_text(MAKE)
    of_pod = f"kubernetes: {{namespace: {place.name}}}\n    resources: {{memory: 100Mi}}"
    text = ANY_SPEC.replace("RUNTIME", "kubernetes").replace(
        "    IMAGE\n", f"    image: mlops-busybox:1\n    {of_pod}\n"
    )
    (home / "looked-at.yaml").write_text(text)
    url, options = new_bucket(cluster_s3)
    settings = {"STORE": url, "STORAGE_OPTIONS": json.dumps(options), "STAGER_IMAGE": "mlops-stager:1"}
    environment = {**SECRETS, **{f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()}}
    user = Terminal(home)
    said = user.run("run", "looked-at.yaml", "-p", "word=servus", **environment, KUBECONFIG=str(place.kubeconfig))
    assert said.code == 1, said.out + said.err
    assert "ended with exit code 3" in said.out, said.out
    assert place.left() == []
    (home / "src" / "make.sh").write_text("echo edited since\n")
    environment["KUBECONFIG"] = str(place.person(home))
    return Visitor(user, place, environment, cluster_s3.folder / url.removeprefix("s3://"))


MORE = """
id -u; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; touch /mlops/inputs/x || echo closed
env | grep -c AWS
grep -c attempt /mlops/step.json
"""


def test_a_failed_pod_can_be_looked_at_and_what_is_done_there_changes_nothing(visitor: Visitor) -> None:
    before = visitor.files()
    for _ in range(2):
        said = visitor.shell("sh", "-c", LOOK)
        assert said.code == 5, said.out + said.err
        assert len(said.out.splitlines()) == 5, said.out
        text, epoch, source, key, facts = said.out.splitlines()
        assert (text, epoch, source, key) == ("servus", "1", MAKE.strip(), "sesame-2")
        assert facts == "blue sesame-1 7 metrics /mlops/outputs/metrics"
        assert visitor.left() == []
    said = visitor.shell("sh", "-c", MORE)
    uid, memory, closed, credentials, seal = said.out.splitlines()
    assert (uid, memory, closed) == ("65532", str(100 << 20), "closed"), said.out + said.err
    assert (credentials, seal) == ("0", "1")
    assert visitor.files() == before


def test_a_terminal_has_its_keys_and_its_size_and_the_pod_is_no_attempt_of_the_task(visitor: Visitor) -> None:
    with inside(visitor) as (process, controller, said):
        assert b"step measure, try 1 of run" in said and b"in mlops-busybox:1" in said and b"it ran: sh -c" in said
        os.write(controller, b"test -t 0 && echo termi''nal; stty size; cat $MLOPS_INPUT_TEXT; sleep 600\n")
        seen = read_until(controller, b"servus")
        assert b"terminal" in seen and b"31 97" in seen
        (pod,) = visitor.namespace.pods()
        labels = {name for name in pod["metadata"]["labels"] if name.startswith("mlops.airflow/")}
        assert labels == {"mlops.airflow/managed", "mlops.airflow/instance", "mlops.airflow/shell"}
        assert "finalizers" not in pod["metadata"] and pod["spec"]["activeDeadlineSeconds"] == 12 * 3600
        assert [one["name"] for one in pod["spec"]["initContainers"]] == ["stage-in"]
        assert not any(secret in json.dumps(pod) for secret in ("sesame", "mlops-tests-secret"))
        os.write(controller, b"\x03exit 9\n")  # Ctrl-C first: it is for what runs there
        assert process.wait(PATIENCE) == 9
    assert visitor.left() == []


def test_ctrl_d_leaves(visitor: Visitor) -> None:
    with inside(visitor) as (process, controller, _):
        os.write(controller, b"\x04")
        assert process.wait(PATIENCE) == 0
    assert visitor.left() == []


def inside(visitor: Visitor) -> AbstractContextManager[tuple[subprocess.Popen[bytes], int, bytes]]:
    """The visitor on a terminal whose shell has begun."""
    return on_a_terminal(visitor.user, visitor.settings, size=(31, 97))


@pytest.mark.parametrize("end", ["terminal closed", "SIGTERM", "SIGHUP"])
def test_who_is_cut_off_leaves_nothing(visitor: Visitor, end: str) -> None:
    with inside(visitor) as (process, controller, _):
        assert len(visitor.left()) == 3
        if end == "terminal closed":
            os.close(controller)
        else:
            process.send_signal(signal.Signals[end])
        assert process.wait(PATIENCE) == 128 + (15 if end == "SIGTERM" else 1)
    assert visitor.left() == []


def test_the_pod_of_who_is_killed_ends_and_clean_removes_what_is_left(visitor: Visitor) -> None:
    with inside(visitor) as (process, _, _):
        alive = visitor.user.run("clean", "--older-than", "30d", "--yes", **visitor.settings)
        assert "0 runs removed" in alive.out and len(visitor.left()) == 3, alive.out
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while visitor.namespace.pods()[0]["status"]["phase"] == "Running":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert len(visitor.left()) == 3
        would = visitor.user.run("clean", "--older-than", "30d", **visitor.settings)
        assert would.out.count("(airflow-mlops shell): would be removed") == 1 and len(visitor.left()) == 3
        done = visitor.user.run("clean", "--older-than", "30d", "--yes", **visitor.settings)
        assert done.code == 0, done.err
    deadline = time.monotonic() + 10
    while visitor.left() and time.monotonic() < deadline:
        time.sleep(0.2)  # its secret goes when Kubernetes sees that its pod has gone
    assert visitor.left() == []


def test_a_pod_that_nobody_comes_to_ends_by_itself(visitor: Visitor) -> None:
    from airflow_mlops.operators.kubernetes_visit import WAITS

    started = time.monotonic()
    waits = subprocess.run(["docker", "run", "--rm", "mlops-busybox:1", *WAITS[:-1], "2"], check=False, timeout=60)
    assert waits.returncode == 0
    assert time.monotonic() - started > 2


def test_much_goes_in_and_comes_out_and_has_an_end(visitor: Visitor) -> None:
    data = os.urandom(3 << 20)
    said = subprocess.run(
        [sys.executable, "-m", "airflow_mlops", "shell", "last", "measure", "--", "cat"],
        env=visitor.user.environment | visitor.settings,
        cwd=visitor.user.home,
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout == data
    assert visitor.left() == []


def test_a_command_that_is_not_there_ends_as_in_a_shell(visitor: Visitor) -> None:
    said = visitor.shell("nonesuch")
    assert said.code == 127
    assert "executable file not found" in said.err
    assert visitor.left() == []


def test_who_may_not_run_commands_in_pods_is_told_so_and_leaves_nothing(visitor: Visitor) -> None:
    said = visitor.user.run(
        "shell", "last", "measure", "--", "true", **visitor.settings | {"KUBECONFIG": str(visitor.namespace.kubeconfig)}
    )
    assert said.code == 2
    assert "this account may not run commands in pods of namespace" in said.err and "pods/exec" in said.err, said.err
    assert "kubernetes-person-role.yaml" in said.err and "Traceback" not in said.err and '{"' not in said.err
    assert visitor.left() == []


def test_an_api_server_that_does_not_answer_is_named(visitor: Visitor, tmp_path: Path) -> None:
    said = visitor.user.run("shell", "last", "measure", "--", "true", **visitor.settings | {"KUBECONFIG": "/nowhere"})
    assert said.code == 2
    assert "no Kubernetes cluster is known here" in said.err
    assert visitor.left() == []


DAG = """
from airflow.sdk import DAG
from airflow_mlops.operators import KubernetesContainerOperator
with DAG("deployed", schedule=None) as dag:
    first = KubernetesContainerOperator(task_id="first", image="mlops-busybox:1", command=["sh", "-c", "echo one > $MLOPS_OUTPUT_DATA"],
                                        outputs={"data": "dataset"}, namespace=NAMESPACE)
    KubernetesContainerOperator(task_id="step", image="mlops-busybox:1", command=["sh", "-c", "exit 3"], namespace=NAMESPACE, env={"WHO": "b"},
                                inputs={"data": first.artifact("data")}, outputs={"made": "dataset"})
"""


def test_a_step_of_a_deployment_on_a_shared_volume_can_be_looked_at(
    run_dag: RunDag, namespace: Namespace, tmp_path: Path
) -> None:
    settings = namespace.share(tmp_path) | {"ALLOWED_NAMESPACES": "*"}
    environment = {f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()}
    result: Any = run_dag(
        DAG.replace("NAMESPACE", repr(namespace.name)), env=environment | {"KUBECONFIG": str(namespace.kubeconfig)}
    )
    assert result.tasks["step"] == "failed", result.log[-5000:]
    before = sorted(map(str, (tmp_path / "store").rglob("*")))
    look = "cat $MLOPS_INPUT_DATA; echo $WHO; echo half > $MLOPS_OUTPUT_MADE; id -u; touch $MLOPS_INPUT_DATA || echo closed"
    command = [sys.executable, "-m", "airflow_mlops", "shell", "--dag", "deployed", result.run_id, "step"]
    (database,) = tmp_path.glob("dags-*.db")
    of_person = {
        "KUBECONFIG": str(namespace.person(tmp_path)),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
    }
    said = subprocess.run(
        [*command, "--", "sh", "-c", look],
        env=os.environ | environment | of_person,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (said.returncode, said.stdout.split()) == (0, ["one", "b", "65532", "closed"]), said.stderr
    assert sorted(map(str, (tmp_path / "store").rglob("*"))) == before
    assert namespace.left() == [] and [*(tmp_path / "work").iterdir()] == []
