# SPDX-License-Identifier: Apache-2.0
"""
Put Kubernetes steps through what happens to their workers and their pods: killed, drained, cleared, deleted by somebody else.

As ``container_lives.py``, whose scenarios these are where they say nothing of Docker, with a proxy before the API server. ``python pod_lives.py
HOME OPTIONS SCENARIO…``; OPTIONS is JSON: the ``namespace`` of the pods, the ``folder`` with the store's files, and settings of ``[mlops]``.
``KUBECTL`` is a command that may do anything in the cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "state_model"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil
from container_lives import (
    _followed,
    _started,
    _waiting,
    cleared_while_running,
    deaf,
    drained,
    of_a_lost_supervisor,
    of_a_lost_worker,
    of_another_spec,
    that_ended_unseen,
)
from experiment import running
from installation import prepare, until
from lives import Steps, kill_worker, lived, supervisor_of

from tests.parts.kubernetes_proxy import proxied_kubeconfig
from tests.parts.processes import is_alive

if TYPE_CHECKING:
    from tests.parts.proxy import Proxy

POD = (
    "from airflow_mlops.operators import KubernetesContainerOperator; "
    "KubernetesContainerOperator(task_id='step', image='mlops-busybox:1', command=['sh', '-c', {program!r}], outputs={{'n': 'integer'}}, "
    "namespace={namespace!r}, volumes=[{{'source': {home!r}, 'target': {home!r}}}]{more})"
)


class Pods(Steps):
    """Steps that run in pods of a cluster behind a proxy."""

    proxy: Proxy

    def __init__(self, home: Path, namespace: str, store: Path) -> None:
        super().__init__(home)
        self.namespace, self.store = namespace, store

    def contain(self, dag_id: str, program: str, more: str = "") -> None:
        """(Re)write a DAG of one pod."""
        home = str(self.home)
        self.write(dag_id, 0, POD.format(program=program, home=home, more=more, namespace=self.namespace))

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        command = [*shlex.split(os.environ["KUBECTL"]), "-n", self.namespace, *words]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    def containers(self, dag_id: str) -> list[dict[str, Any]]:
        """Pods of a scenario, running or not."""
        selector = f"mlops.airflow/dag={dag_id}"
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-o", "json", "-l", selector))["items"]
        return found

    def delete(self, dag_id: str, *options: str) -> None:
        """Delete the pod of a scenario as a person does."""
        (pod,) = self.containers(dag_id)
        self.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", *options)

    def has_ended(self, dag_id: str) -> bool:
        """Whether its pod is over."""
        return [pod["status"]["phase"] for pod in self.containers(dag_id)] == ["Succeeded"]


def that_ended_unseen_and_was_deleted(af: Pods, dag_id: str) -> str:
    """The program ends well while nobody watches, and then somebody deletes its pod, by force."""
    kill_worker(_started(af, dag_id))  # type: ignore[arg-type]
    af.path("go", dag_id).touch()
    until("ended pod", lambda: af.has_ended(dag_id))
    af.delete(dag_id, "--force", "--grace-period=0")
    af.release(dag_id)
    return af.ended(dag_id)


def deleted_while_running(af: Pods, dag_id: str) -> str:
    """Somebody deletes the pod of a running program; the next one runs to its end."""
    _started(af, dag_id)  # type: ignore[arg-type]
    af.delete(dag_id, "--grace-period=1")
    return _followed(af, dag_id)  # type: ignore[arg-type]


def evicted(af: Pods, dag_id: str) -> str:
    """The pod of a running program is evicted, as ``kubectl drain`` does."""
    _started(af, dag_id)  # type: ignore[arg-type]
    (pod,) = af.containers(dag_id)
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": af.namespace}}
    eviction["deleteOptions"] = {"gracePeriodSeconds": 1}
    path = f"/api/v1/namespaces/{af.namespace}/pods/{name}/eviction"
    af.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    return _followed(af, dag_id)  # type: ignore[arg-type]


def marked(af: Pods, dag_id: str) -> str:
    """Marked as failed, with a program that ignores SIGTERM."""
    ran = af.path("ran", dag_id)
    af.contain(dag_id, deaf(af, dag_id), ", stop_grace=timedelta(seconds=8)")
    af.trigger(dag_id)
    until("running pod", ran.exists)
    af.mark_failed(dag_id)
    until("end of the pod", lambda: not af.containers(dag_id), seconds=30)
    scratch = Path(os.environ["AIRFLOW__MLOPS__WORK_DIR"])
    until("end of the scratch folder", lambda: not [*scratch.glob("mlops-*")])
    return af.ended(dag_id)


def created_by_two(deed: Any) -> Callable[[Pods, str], str]:
    """
    The supervisor dies while its task process creates the pod, and that process hears of the pod when the next try's own runs.

    :param deed: whether the API server hears of the first pod that late, too, or has created it
    """

    def scenario(af: Pods, dag_id: str) -> str:
        creation = af.proxy.rule(r"POST .*/pods", deed)
        af.contain(dag_id, _waiting(af, dag_id))  # type: ignore[arg-type]
        af.trigger(dag_id)
        until("creation", creation.reached.is_set)
        supervisor = psutil.Process(supervisor_of(af, dag_id))
        (task,) = supervisor.children()
        creation.closed.set()
        supervisor.send_signal(signal.SIGKILL)
        af.release(dag_id)
        until("running pod", af.path("ran", dag_id).exists)
        creation.released.set()
        until("end of the task process", lambda: not is_alive(task))
        pods = len(af.containers(dag_id))
        af.path("go", dag_id).touch()
        return f"{af.ended(dag_id)}, {pods} left"

    return scenario


SCENARIOS: dict[str, Callable[[Any, str], str]] = {
    scenario.__name__: scenario
    for scenario in (
        cleared_while_running,
        of_a_lost_worker,
        that_ended_unseen,
        that_ended_unseen_and_was_deleted,
        of_a_lost_supervisor,
        of_another_spec,
        deleted_while_running,
        evicted,
        drained,
        marked,
    )
} | {
    "created_by_two_before_the_second_looks": created_by_two("hold answer"),
    "created_by_two_after_the_second_looked": created_by_two("hold request"),
}


@contextlib.contextmanager
def living(home: Path, options: dict[str, Any], *jobs: str) -> Iterator[tuple[Pods, dict[str, Any]]]:
    """An Airflow whose steps run in pods, and its jobs by their names."""
    prepare(home)
    home.chmod(0o777)  # programs write beside it, as a user of their own
    os.environ.update(AIRFLOW__MLOPS__ALLOWED_VOLUMES=str(home), AIRFLOW__MLOPS__WORK_DIR=str(home / "work"))
    for name, value in options["settings"].items():
        os.environ[f"AIRFLOW__MLOPS__{name}"] = value
    kubeconfig = Path(os.environ["KUBECONFIG"])
    os.environ["KUBECONFIG"] = str(home / "kubeconfig")
    with running(*jobs) as processes:
        af = Pods(home, options["namespace"], Path(options["folder"]))
        # After the fork of the jobs, since the proxy has threads.
        af.proxy = proxied_kubeconfig(kubeconfig, home / "kubeconfig")
        yield af, processes


def pods_lived(af: Pods, name: str, state: str) -> dict[str, Any]:
    """What came of a scenario, with the pods that it has left."""
    return {**lived(af, name, state, af.store), "left": [pod["metadata"]["name"] for pod in af.containers(name)]}


def main(home: Path, options: dict[str, Any], wanted: list[str]) -> None:
    """Run the scenarios and write what came of them."""
    found: dict[str, Any] = {}
    with living(home, options, "scheduler") as (af, _):
        for name in wanted:
            found[name] = pods_lived(af, name, SCENARIOS[name](af, name))
            (home / "lives.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]), sys.argv[3:])
