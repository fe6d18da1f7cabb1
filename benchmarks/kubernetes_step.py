# SPDX-License-Identifier: Apache-2.0
"""
What a step on Kubernetes costs beside the provider's KubernetesPodOperator, how many pods it takes, and how quickly files travel.

Pairs of tasks take turns in one DAG on the tests' own one-node cluster, with an S3 server of the tests beside it; the pods' traffic goes over the
node's bridge. Run it as root, as ``python benchmarks/kubernetes_step.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from docker_step import prepare_airflow, run_dag  # noqa: E402

if TYPE_CHECKING:
    from tests.parts.namespace import Namespace
    from tests.parts.s3 import S3Server

IMAGE = "mlops-busybox:1"
PAIRS_DAG = """
from airflow.sdk import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow_mlops.operators import KubernetesContainerOperator

with DAG("pairs", schedule=None) as dag:
    last = None
    for n in range({pairs}):
        plain = KubernetesPodOperator(task_id=f"plain-{{n:03}}", image="{image}", cmds=["true"], namespace="{namespace}")
        ours = KubernetesContainerOperator(task_id=f"ours-{{n:03}}", image="{image}", command=["true"], namespace="{namespace}")
        if last is not None:
            last >> plain
        plain >> ours
        last = ours
"""
FILES_DAG = """
from airflow.sdk import DAG
from airflow_mlops.operators import KubernetesContainerOperator

BIG = "dd if=/dev/urandom of=$MLOPS_OUTPUT_DATA bs=1M count={mib}"
SMALL = "mkdir $MLOPS_OUTPUT_DATA; cd $MLOPS_OUTPUT_DATA; n=0; while [ $n -lt {files} ]; do echo $n > $n; n=$((n+1)); done"
common = {{"image": "{image}", "namespace": "{namespace}"}}
with DAG("files", schedule=None) as dag:
    for name, script in (("big", BIG), ("small", SMALL)):
        command = ["sh", "-c", script]
        make = KubernetesContainerOperator(task_id=f"{{name}}-out", command=command, outputs={{"data": "dataset"}}, **common)
        KubernetesContainerOperator(task_id=f"{{name}}-in", command=["true"], inputs={{"data": make.artifact("data")}}, **common)
"""


class Watcher:
    """Sees each state of the pods of a namespace while something runs."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.pods: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        from kubernetes.client import ApiException, CoreV1Api
        from kubernetes.config import new_client_from_config
        from kubernetes.watch import Watch

        core = CoreV1Api(new_client_from_config(str(self._namespace.cluster.kubeconfig)))
        while not self._done.is_set():
            try:
                for event in Watch().stream(core.list_namespaced_pod, self._namespace.name, timeout_seconds=2):
                    pod = event["raw_object"]
                    self.pods[pod["metadata"]["name"]] = pod
            except ApiException:
                continue  # the server's own view is a moment behind

    def of(self, start: str) -> list[dict[str, Any]]:
        """Pods of the tasks whose ids start so."""
        return [pod for pod in self.pods.values() if pod["metadata"]["labels"].get("task_id", "").startswith(start)]

    def staging(self, task: str) -> float:
        """Seconds that the stager of a task's pod was at work, as it says."""
        (pod,) = self.of(task)
        (stager,) = pod["status"]["initContainerStatuses"]
        return float(json.loads(stager["state"]["terminated"]["message"])["seconds"])


def pairs(dags: Path, namespace: Namespace, count: int) -> float:
    """Print what a no-op step costs; how many times less than the provider's operator."""
    with Watcher(namespace) as watcher:
        times = dict(run_dag(dags, "pairs", PAIRS_DAG.format(pairs=count + 1, image=IMAGE, namespace=namespace.name)))
    medians = {}
    for name in ("plain", "ours"):
        values = [times[f"{name}-{n:03}"] for n in range(1, count + 1)]
        mine = watcher.of(name)
        containers = {len(pod["spec"].get("initContainers", ())) + len(pod["spec"]["containers"]) for pod in mine}
        medians[name] = statistics.median(values)
        print(
            f"{name:<6} median {medians[name]:5.2f} s, {min(values):.2f} to {max(values):.2f} s; "
            f"{len(mine) / (count + 1):.2f} pods a step, of {', '.join(map(str, containers))} containers"
        )
    return medians["ours"] / medians["plain"]


def raw(options: dict[str, object], folder: Path, files: int, mib: int) -> dict[str, float]:
    """Seconds that the raw client, boto3 with its own transfer manager, takes for the same files, both ways."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3
    from boto3.s3.transfer import TransferConfig

    client = boto3.client(
        "s3",
        endpoint_url=options["client_kwargs"]["endpoint_url"],  # type: ignore[index]
        aws_access_key_id=options["key"],
        aws_secret_access_key=options["secret"],
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="raw")
    big = folder / "big"
    big.write_bytes(os.urandom(mib << 20))
    small = [folder / str(n) for n in range(files)]
    for file in small:
        file.write_text(file.name)
    config = TransferConfig(max_concurrency=16, multipart_chunksize=16 << 20)
    found = {}
    began = time.monotonic()
    client.upload_file(str(big), "raw", "big", Config=config)
    found["big-out"], began = time.monotonic() - began, time.monotonic()
    client.download_file("raw", "big", str(folder / "back"), Config=config)
    found["big-in"], began = time.monotonic() - began, time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda file: client.upload_file(str(file), "raw", f"small/{file.name}"), small))
        found["small-out"], began = time.monotonic() - began, time.monotonic()
        list(pool.map(lambda file: client.download_file("raw", f"small/{file.name}", f"{file}-back"), small))
        found["small-in"] = time.monotonic() - began
    return found


@contextmanager
def deployment() -> Iterator[tuple[Path, Namespace, S3Server, dict[str, str]]]:
    """
    What steps on Kubernetes need, for as long as the block lasts.

    :return: a folder, a namespace, an S3 server that its pods reach, and settings of ``[mlops]``
    """
    from tests.parts.docker import docker_session
    from tests.parts.images import busybox, stager
    from tests.parts.kubernetes import cluster_session
    from tests.parts.namespace import temporary_namespace
    from tests.parts.s3 import new_bucket, running_s3

    with tempfile.TemporaryDirectory() as name, docker_session() as daemon, cluster_session() as cluster:
        folder = Path(name)
        folder.chmod(0o755)  # programs have a user of their own
        for image in (busybox(daemon), stager(daemon)):
            cluster.load(image)
        (folder / "s3").mkdir()
        with (
            running_s3(folder / "s3", cluster.node_ip) as s3,
            temporary_namespace(cluster, folder, "privileged") as namespace,
        ):
            url, options = new_bucket(s3)
            os.environ["KUBECONFIG"] = str(namespace.kubeconfig)
            settings = {
                "STORE": url,
                "STORAGE_OPTIONS": json.dumps(options),
                "INSTANCE": "benchmark",
                "ALLOWED_NAMESPACES": "*",
                "STAGER_IMAGE": "mlops-stager:1",
            }
            yield folder, namespace, s3, settings


def main() -> None:
    """Run all; exit with 1 if a step costs more than a third of the provider's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=1 / 3)
    arguments = parser.parse_args()
    with deployment() as (home, namespace, _, settings):
        dags = prepare_airflow(home / "airflow")
        os.environ.update({f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()})
        from airflow.utils.db import initdb

        initdb()
        ratio = pairs(dags, namespace, arguments.pairs)
        print(f"{arguments.pairs} pairs: ours takes {ratio:.2f} of the provider's time (limit {arguments.limit:.2f})")
        text = FILES_DAG.format(image=IMAGE, namespace=namespace.name, mib=arguments.mib, files=arguments.files)
        with Watcher(namespace) as watcher:
            run_dag(dags, "files", text)
        (home / "raw").mkdir()
        plain = raw(json.loads(settings["STORAGE_OPTIONS"]), home / "raw", arguments.files, arguments.mib)
        for task, seconds in plain.items():
            staged = watcher.staging(task)
            print(
                f"{task}: stager {staged:.1f} s, boto3 {seconds:.1f} s: {seconds / staged * 100:.0f} % of its throughput"
            )
    if ratio > arguments.limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
