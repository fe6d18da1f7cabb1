# SPDX-License-Identifier: Apache-2.0
"""
A second node of the test cluster, in name only: the controllers see it well, and nothing is scheduled on it.

Where all nodes fall silent, Kubernetes takes itself for the one that is cut off, and evicts nothing. So one node is only ever lost beside another.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.parts.kubernetes import NODE_SILENCE, Cluster

NAME = "second"


@contextlib.contextmanager
def second_node(cluster: Cluster) -> Iterator[None]:
    """The node, for as long as the block lasts."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}, "spec": {"unschedulable": True}}
    over = threading.Event()

    def beat() -> None:
        while not over.wait(NODE_SILENCE / 4):
            _say_alive(cluster)

    cluster.apply(node)
    beating = threading.Thread(target=beat, daemon=True)
    try:
        _say_alive(cluster)
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "in name only"}
        ready |= {"lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
        change = json.dumps({"status": {"conditions": [ready]}})
        cluster.kubectl("patch", "node", NAME, "--subresource=status", "--type=merge", "-p", change)
        beating.start()
        yield
    finally:
        over.set()
        if beating.is_alive():
            beating.join()
        cluster.kubectl("delete", "node", NAME)
        cluster.kubectl("delete", "lease", NAME, "-n", "kube-node-lease", "--ignore-not-found")


def _say_alive(cluster: Cluster) -> None:
    spec = {"holderIdentity": NAME, "leaseDurationSeconds": NODE_SILENCE, "renewTime": _now()}
    metadata = {"name": NAME, "namespace": "kube-node-lease"}
    cluster.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
