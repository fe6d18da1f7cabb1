# SPDX-License-Identifier: Apache-2.0
"""
What a hundred Kubernetes steps cost that wait in the triggerer: workers held, memory of the triggerer, questions to the API server.

Airflow's own scheduler and triggerer, the tests' own one-node cluster, a hundred real pods that sleep until all have been measured. The API
server's own counters say what was asked of it about pods; its components ask with watches of their own, which a measurement without steps
takes off. Run it as root, as ``python benchmarks/deferred_steps.py``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    str(ROOT / "benchmarks"),
    str(ROOT),
    str(ROOT / "tests" / "state_model"),
    str(ROOT / "tests" / "operators"),
]

if TYPE_CHECKING:
    from tests.parts.kubernetes import Cluster

STEPS = """
    from airflow_mlops.operators import KubernetesContainerOperator
    for n in range({count}):
        KubernetesContainerOperator(task_id=f"s{{n:03}}", image="mlops-busybox:1", namespace={namespace!r}, deferrable=True,
            command=["sh", "-c", "n=0; until [ -e {go} ] || [ $n = 1200 ]; do sleep 1; n=$((n+1)); done"],
            volumes=[{{"source": {home!r}, "target": {home!r}}}])
"""
_COUNTER = re.compile(r"apiserver_request_total\{([^}]*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_OF_PODS = re.compile(r'resource="pods"')
_BY_US = re.compile(r'verb="(GET|LIST|WATCH|DELETE|CONNECT)"')


def asked(cluster: Cluster) -> Counter[str]:
    """Questions about pods that the API server has answered, or is answering, by verb, part of the pod and answer."""
    text = cluster.kubectl("get", "--raw", "/metrics")
    found: Counter[str] = Counter()
    for labels, value in _COUNTER.findall(text):
        if _OF_PODS.search(labels) and _BY_US.search(labels):
            facts = dict(_LABEL.findall(labels))
            found[f"{facts['verb']} {facts.get('subresource') or 'pod'} {facts.get('code')}"] += round(float(value))
    return found


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and its children that nobody shares, and how many processes these are."""
    import psutil

    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    return sum(one.memory_full_info().uss for one in family), len(family)


def worked(pid: int) -> float:
    """CPU seconds of a process and its children, those of the system aside."""
    import psutil

    parent = psutil.Process(pid)
    return float(sum(one.cpu_times().user for one in (parent, *parent.children())))


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=120, help="how long the API server is watched while all wait")
    arguments = parser.parse_args()
    from kubernetes_step import deployment

    with deployment() as (folder, namespace, s3, settings):
        cluster = namespace.cluster
        os.environ.update(
            KUBECTL=f"{cluster.programs}/kubectl --kubeconfig {cluster.kubeconfig}",
            AIRFLOW__CORE__PARALLELISM="8",
            AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG="8",
        )
        options = {"namespace": namespace.name, "settings": settings, "folder": str(s3.folder)}
        measure(folder / "airflow", options, arguments.steps, arguments.seconds, cluster)


def measure(home: Path, options: dict[str, Any], count: int, seconds: int, cluster: Cluster) -> None:
    """Run the steps, and look while all of them wait."""
    from pod_lives import living

    kubeconfig = Path(os.environ["KUBECONFIG"]).read_text()
    with living(home, options, "scheduler", "triggerer") as (af, processes):
        import psutil
        from installation import until

        # Past the proxy that tests put before the API server.
        (home / "kubeconfig").write_text(kubeconfig)

        triggerer = processes["triggerer"].pid
        until("triggerer", lambda: memory(triggerer)[1] > 1)
        time.sleep(10)  # until it has loaded what it needs without any trigger
        bare, _ = memory(triggerer)

        def hold(dag_id: str, steps: int) -> Path:
            """Start steps and wait until all of them wait; the file that ends them."""
            go = home / f"go-{dag_id}"
            af.write(dag_id, 0, STEPS.format(count=steps, namespace=options["namespace"], go=go, home=str(home)))
            af.trigger(dag_id)
            until(
                f"{steps} deferred steps",
                lambda: sum(row["state"] == "deferred" for row in af.rows(dag_id)) == steps,
                seconds=1200,
            )
            running = ["get", "pods", "--field-selector=status.phase=Running", "-o", "name"]
            until(f"{steps} running pods", lambda: len(af.kubectl(*running).splitlines()) == steps, seconds=1200)
            time.sleep(10)  # until what they needed at their start is done with
            return go

        def let_go(dag_id: str, go: Path) -> set[str]:
            """End steps; their states."""
            go.touch()
            until("end", lambda: {row["state"] for row in af.rows(dag_id)} <= {"success", "failed"}, seconds=1200)
            return {str(row["state"]) for row in af.rows(dag_id)}

        # The libraries are loaded for the first one.
        first = hold("one", 1)
        empty, _ = memory(triggerer)
        let_go("one", first)
        print(f"triggerer: {bare >> 20} MiB without steps, {empty >> 20} MiB with one")
        before, began = asked(cluster), time.monotonic()
        time.sleep(seconds)
        others = (asked(cluster) - before).total() / (time.monotonic() - began) * 60

        began = time.monotonic()
        go = hold("hundred", count)
        print(
            f"{count} steps wait in the triggerer, their pods run, {time.monotonic() - began:.0f} s after the trigger"
        )
        full, _ = memory(triggerer)
        scheduler = psutil.Process(processes["scheduler"].pid)
        print(f"workers held: {len([one for one in scheduler.children() if one.status() != psutil.STATUS_ZOMBIE])}")
        print(
            f"triggerer: {full >> 20} MiB with {count}: {(full - empty) / (count - 1) / 1024:.0f} KiB for each further step"
        )
        watch(cluster, triggerer, count, seconds, others)
        began = time.monotonic()
        states = let_go("hundred", go)
        print(f"all over {time.monotonic() - began:.0f} s after their end was allowed: {', '.join(sorted(states))}")


def watch(cluster: Cluster, triggerer: int, count: int, seconds: int, others: float) -> None:
    """
    Print what is asked while steps wait.

    :param others: questions a minute that are not theirs
    """
    used = worked(triggerer)
    before, began = asked(cluster), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    questions = asked(cluster) - before
    mine = questions.total() / passed * 60 - others
    used = worked(triggerer) - used
    print(f"questions about pods: {mine / count:.2f} a step and minute (without steps {others:.1f} a minute in all)")
    print(", ".join(f"{what}: {number / passed * 60 / count:.2f}" for what, number in questions.most_common(6)))
    print(f"triggerer: {used / passed * 100:.0f} % of a core while all wait")


if __name__ == "__main__":
    main()
