# SPDX-License-Identifier: Apache-2.0
"""What tests ask for of the cluster: that it runs, a namespace with a worker's account in it, and an S3 server that pods reach."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.images import ROOT, stager
from tests.parts.kubernetes import Cluster, cluster_session
from tests.parts.requirement import Unavailable, unavailable
from tests.parts.s3 import S3Server, running_s3

ROLE = ROOT / "docs" / "kubernetes-role.yaml"


@pytest.fixture(scope="session")
def kubernetes_cluster(docker_daemon: str, busybox_image: str) -> Iterator[Cluster]:
    """A running Kubernetes of this session's own, with the tests' small image and the stager on its node."""
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(cluster_session())
            for image in (busybox_image, stager(docker_daemon)):
                cluster.load(image)
        except (Unavailable, OSError, subprocess.SubprocessError) as reason:
            unavailable("kubernetes", reason)
        yield cluster


class Namespace:
    """
    A namespace, and what a worker is given to run steps in it: a role, an account with it, and a kubeconfig for that.

    :param name: of the namespace
    :param kubeconfig: of the account
    """

    def __init__(self, cluster: Cluster, name: str, folder: Path, profile: str) -> None:
        self.cluster, self.name = cluster, name
        labels = {"pod-security.kubernetes.io/enforce": profile}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        cluster.kubectl("apply", "-n", name, "-f", str(ROLE))
        cluster.kubectl("create", "serviceaccount", "airflow", "-n", name)
        cluster.kubectl(
            "create", "rolebinding", "airflow", "-n", name, "--role=mlops-steps", f"--serviceaccount={name}:airflow"
        )
        token = cluster.kubectl("create", "token", "airflow", "-n", name).strip()
        self.kubeconfig = cluster.kubeconfig_of(folder / "kubeconfig", token)

    def person(self, folder: Path) -> Path:
        """A kubeconfig of somebody who may do what the documented role of a person allows."""
        kubectl, account = self.cluster.kubectl, f"person-{secrets.token_hex(2)}"
        kubectl("apply", "-n", self.name, "-f", str(ROLE.with_name("kubernetes-person-role.yaml")))
        kubectl("create", "serviceaccount", account, "-n", self.name)
        who = f"--serviceaccount={self.name}:{account}"
        kubectl("create", "rolebinding", account, "-n", self.name, "--role=mlops-person", who)
        return self.cluster.kubeconfig_of(
            folder / account, kubectl("create", "token", account, "-n", self.name).strip()
        )

    def claim(self, name: str, folder: Path) -> None:
        """Make a volume of a folder of this host, which is the node, and claim it; pods may not use the folder as such."""
        folder.chmod(0o755)
        size = {"storage": "1Gi"}
        volume = f"{self.name}-{name}"
        spec: dict[str, Any] = {"capacity": size, "accessModes": ["ReadWriteMany"], "storageClassName": ""}
        host = {"hostPath": {"path": str(folder)}, "persistentVolumeReclaimPolicy": "Retain"}
        claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": volume}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {**spec, **host}},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": self.name},
                "spec": {**claim, "resources": {"requests": size}},
            },
        )

    def share(self, folder: Path) -> dict[str, str]:
        """Claim a folder of this host as a volume of workers and pods; settings of ``[mlops]`` that put a deployment's files there."""
        self.claim("shared", folder)
        volumes = {str(folder): {"persistentVolumeClaim": {"claimName": "shared"}}}
        return {
            "STORE": f"file://{folder}/store",
            "WORK_DIR": f"{folder}/work",
            "KUBERNETES_VOLUMES": json.dumps(volumes),
        }

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Its pods."""
        return self.cluster.objects("pods", self.name, selector)

    def release(self) -> None:
        """Let its pods go, whatever holds them."""
        for pod in self.pods():
            change = '{"metadata": {"finalizers": null}}'
            self.cluster.kubectl("patch", "pod", pod["metadata"]["name"], "-n", self.name, "--type=merge", "-p", change)

    def empty(self) -> None:
        """Remove its pods and secrets."""
        self.release()
        kinds = ["delete", "pods,secrets", "--all", "-n", self.name]
        self.cluster.kubectl(*kinds, "--grace-period=0", "--force")

    def left(self) -> list[str]:
        """Names of the pods and secrets that are there."""
        found = [*self.pods(), *self.cluster.objects("secrets", self.name)]
        return [one["metadata"]["name"] for one in found]


@pytest.fixture(scope="session")
def cluster_s3(kubernetes_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that workers and pods reach at the same address."""
    with contextlib.ExitStack() as stack:
        try:
            folder = tmp_path_factory.mktemp("cluster-s3")
            server = stack.enter_context(running_s3(folder, kubernetes_cluster.node_ip))
        except (Unavailable, subprocess.SubprocessError) as reason:
            unavailable("s3", reason)
        yield server


@contextlib.contextmanager
def temporary_namespace(cluster: Cluster, folder: Path, profile: str = "restricted") -> Iterator[Namespace]:
    """
    A namespace for as long as the block lasts.

    :param folder: for the kubeconfig of its worker
    :param profile: which of Kubernetes' pod security standards it enforces: a pod that asks for more is refused
    """
    made = Namespace(cluster, f"test-{secrets.token_hex(4)}", folder, profile)
    yield made
    made.release()
    cluster.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture
def namespace(kubernetes_cluster: Cluster, tmp_path: Path) -> Iterator[Namespace]:
    """A namespace of the test's own, under the restricted profile, whose worker may do what the documented role allows."""
    with temporary_namespace(kubernetes_cluster, tmp_path) as made:
        yield made
