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
_OF_PODS = re.compile(r'resource="pods"')
_BY_US = re.compile(r'verb="(GET|LIST|WATCH|DELETE|CONNECT)"')


def asked(cluster: Cluster) -> float:
    """Questions about pods that the API server has answered, or is answering."""
    text = cluster.kubectl("get", "--raw", "/metrics")
    found = [(labels, float(value)) for labels, value in _COUNTER.findall(text)]
    return sum(value for labels, value in found if _OF_PODS.search(labels) and _BY_US.search(labels))


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and its children that nobody shares, and how many processes these are."""
    import psutil

    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    return sum(one.memory_full_info().uss for one in family), len(family)


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
        empty, _ = memory(triggerer)
        before, began = asked(cluster), time.monotonic()
        time.sleep(seconds)
        others = (asked(cluster) - before) / (time.monotonic() - began) * 60

        go = home / "go"
        body = STEPS.format(count=count, namespace=options["namespace"], go=go, home=str(home))
        af.write("hundred", 0, body)
        af.trigger("hundred")
        began = time.monotonic()

        def waiting() -> int:
            return sum(row["state"] == "deferred" for row in af.rows("hundred"))

        def running_pods() -> int:
            pods = af.kubectl("get", "pods", "--field-selector=status.phase=Running", "-o", "name")
            return len(pods.splitlines())

        until(f"{count} deferred steps", lambda: waiting() == count, seconds=1200)
        until(f"{count} running pods", lambda: running_pods() == count, seconds=1200)
        print(
            f"{count} steps wait in the triggerer, their pods run, {time.monotonic() - began:.0f} s after the trigger"
        )
        time.sleep(10)
        full, _ = memory(triggerer)
        scheduler = psutil.Process(processes["scheduler"].pid)
        print(f"workers held: {len([one for one in scheduler.children() if one.status() != psutil.STATUS_ZOMBIE])}")
        print(
            f"triggerer: {empty >> 20} MiB without steps, {full >> 20} MiB with {count}: {(full - empty) / count / 1024:.0f} KiB a step"
        )
        used = sum(
            psutil.Process(pid).cpu_times().user
            for pid in [triggerer, *[c.pid for c in psutil.Process(triggerer).children()]]
        )
        before, began = asked(cluster), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        mine = (asked(cluster) - before) / passed * 60 - others
        used = (
            sum(
                psutil.Process(pid).cpu_times().user
                for pid in [triggerer, *[c.pid for c in psutil.Process(triggerer).children()]]
            )
            - used
        )
        print(
            f"questions about pods: {mine / count:.2f} a step and minute (without steps {others:.1f} a minute in all)"
        )
        print(f"triggerer: {used / passed * 100:.0f} % of a core while all wait")
        began = time.monotonic()
        go.touch()
        until(
            "end of the run",
            lambda: not [row for row in af.rows("hundred") if row["state"] not in ("success", "failed")],
            seconds=1200,
        )
        states = {row["state"] for row in af.rows("hundred")}
        print(
            f"all over {time.monotonic() - began:.0f} s after their end was allowed: {', '.join(sorted(map(str, states)))}"
        )


if __name__ == "__main__":
    main()
