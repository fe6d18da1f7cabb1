# SPDX-License-Identifier: Apache-2.0
"""
The pod of an attempt: the program, and what carries its files, as a manifest in Kubernetes' own words.

Built as plain data, then merged with what the step asks for (``pod``), then handed to the provider's operator, which puts its keywords and
its labels to it and calls the deployment's ``pod_mutation_hook`` on the whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.kubernetes_api import FINALIZER, GATE
from airflow_mlops.operators.kubernetes_names import PREFIX, STOP_GRACE, annotations_of, labels_of, pod_name
from airflow_mlops.operators.kubernetes_state import STAGE_OUT, STEP

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.operators.settings import Settings

Manifest = dict[str, Any]

UPLOAD_GRACE = 3600
"""Seconds that outputs may take to reach the store when the program has ended. Whoever ends a pod before passes a grace of its own."""

NOBODY = 65532
"""User and group of a program whose worker is root, as distroless images have it."""

VOLUME = "volume-"
"""How the names of a step's own volumes begin, by their number."""

_SECRET = "mlops-secret"  # noqa: S105 - the name of a volume
_EXPANDED = re.compile(r"\$(?=[$(])")
MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "schedulingGates": "name",
    "ports": "containerPort",
    "hostAliases": "ip",
}
"""Lists whose items are merged one by one, and what tells the items apart, as Kubernetes' own strategic merge does."""


@dataclass(frozen=True, slots=True)
class Files:
    """
    What brings an attempt's files into its pod, and out of it.

    :param volumes: of the pod
    :param mounts: of the program's container
    :param init_containers: what runs before the program, and beside it
    :param annotations: of the pod, for volumes that are made of them
    """

    volumes: Sequence[Manifest]
    mounts: Sequence[Manifest]
    init_containers: Sequence[Manifest] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def user_of_pods() -> int:
    """The user that programs run as: the worker's, unless that is root."""
    return os.getuid() or NOBODY


def group_of_pods() -> int:
    """The group that programs run as: the worker's, unless its user is root."""
    return os.getgid() if os.getuid() else NOBODY


def manifest_of(operator: KubernetesStepOperator, attempt: Attempt, files: Files) -> Manifest:
    """
    The pod of an attempt, before what the step asks for is merged into it.

    :param files: what brings files in and out
    """
    invocation = attempt.invocation
    assert invocation is not None  # noqa: S101 - the life of a step makes it before it runs the program
    environment: list[Manifest] = [
        {"name": name, "value": literal(value)} for name, value in invocation.environment.items()
    ]
    environment += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": pod_name(attempt.id), "key": f"env.{name}"}}}
        for name in invocation.secret_environment
    ]
    volumes, mounts = list(files.volumes), list(files.mounts)
    if shm := operator.step_resources.shm:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(shm)}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - in the container
    if attempt.secret_files:
        items = [{"key": f"file.{name}", "path": name} for name in attempt.secret_files]
        secret = {"secretName": pod_name(attempt.id), "items": items, "defaultMode": 0o440}
        volumes.append({"name": _SECRET, "secret": secret})
        mounts.append({"name": _SECRET, "mountPath": operator.layout(attempt).secrets, "readOnly": True})
    for index, volume in enumerate(operator.volumes):
        volumes.append({"name": f"{VOLUME}{index}", **_source_of(str(volume.source))})
        mounts.append({"name": f"{VOLUME}{index}", "mountPath": volume.target, "readOnly": bool(volume.read_only)})
    if attempt.settings.read_only_root:
        volumes.append({"name": "tmp", "emptyDir": {}})
        mounts.append({"name": "tmp", "mountPath": "/tmp"})  # noqa: S108 - in the container
    step: Manifest = {
        "name": STEP,
        "image": invocation.image,
        "env": environment,
        "resources": container_resources(operator),
        "volumeMounts": mounts,
        "securityContext": container_security(attempt.settings),
    }
    if invocation.command:
        step["command"] = [literal(word) for word in invocation.command]
    if invocation.args:
        step["args"] = [literal(word) for word in invocation.args]
    if invocation.working_directory:
        step["workingDir"] = invocation.working_directory
    user = user_of_pods()
    uploads = any(container["name"] == STAGE_OUT for container in files.init_containers)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(attempt.id),
            "labels": labels_of(attempt.identity, attempt.id, operator.kind),
            "annotations": {
                **annotations_of(attempt.identity, attempt.id),
                **files.annotations,
                f"{PREFIX}/{STOP_GRACE}": str(operator.grace_seconds()),
            },
            "finalizers": [FINALIZER],
        },
        "spec": {
            "restartPolicy": "Never",
            "schedulingGates": [{"name": GATE}],
            "terminationGracePeriodSeconds": UPLOAD_GRACE if uploads else operator.grace_seconds(),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": user,
                "runAsGroup": group_of_pods(),
                "fsGroup": group_of_pods(),
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": list(files.init_containers),
            "containers": [step],
            "volumes": volumes,
        },
    }


def literal(text: str) -> str:
    """A text as a manifest has it that a container is to get as it is: Kubernetes puts a variable in place of ``$(NAME)``, and ``$`` of ``$$``."""
    return _EXPANDED.sub("$$", text)


def _source_of(source: str) -> Manifest:
    """The volume of a pod that a step's volume is: a folder of the node, or a claim by its name."""
    if source.startswith("/"):
        return {"hostPath": {"path": source}}
    return {"persistentVolumeClaim": {"claimName": source}}


def container_security(settings: Settings) -> Manifest:
    """What holds for every container, as the restricted profile of Kubernetes' Pod Security Standards wants it."""
    security: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if settings.read_only_root:
        security["readOnlyRootFilesystem"] = True
    return security


def container_resources(operator: KubernetesStepOperator) -> Manifest:
    """What a step asks for: the same as request and as limit, so that a program gets what it was promised and no more."""
    resources = operator.step_resources
    wanted: Manifest = {}
    if resources.cpu:
        wanted["cpu"] = f"{round(resources.cpu * 1000)}m"
    if resources.memory:
        wanted["memory"] = str(resources.memory)
    if resources.disk:
        wanted["ephemeral-storage"] = str(resources.disk)
    if resources.gpu:
        wanted[operator.gpu_resource] = str(resources.gpu)
    return {"requests": dict(wanted), "limits": dict(wanted)} if wanted else {}


def secret_keys(attempt: Attempt, credentials: Mapping[str, str]) -> dict[str, str]:
    """What goes into the secret of an attempt: credentials of the stager, and the step's own secrets."""
    invocation = attempt.invocation
    assert invocation is not None  # noqa: S101 - the life of a step makes it before it runs the program
    return {
        **{f"stager.{name}": value for name, value in credentials.items()},
        **{f"env.{name}": value for name, value in invocation.secret_environment.items()},
        **{f"file.{name}": value for name, value in attempt.secret_files.items()},
    }


def merged(base: Any, patch: Any, key: str = "") -> Any:
    """
    A manifest with a patch applied as ``kubectl patch`` does by default: mappings are merged, ``null`` removes, and in lists whose items have
    names those are merged one by one.
    """
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        found = {name: value for name, value in base.items() if name not in patch}
        for name, value in patch.items():
            if value is not None:
                found[name] = merged(base.get(name), value, name)
        return found
    by = MERGED_BY.get(key)
    if by is None or not isinstance(base, list) or not isinstance(patch, list):
        return patch
    patches = {item.get(by): item for item in patch if isinstance(item, Mapping)}
    known = [item.get(by) for item in base]
    items = [merged(item, patches[item.get(by)]) if item.get(by) in patches else item for item in base]
    return items + [item for item in patch if not isinstance(item, Mapping) or item.get(by) not in known]
