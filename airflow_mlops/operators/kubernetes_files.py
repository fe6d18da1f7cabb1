# SPDX-License-Identifier: Apache-2.0
"""
How files travel by an object store: one container brings them before the program starts, one takes them when it has ended.

Each is there only where it has something to carry, for each makes its pod wait: a node looks once a second whether a container has begun or
ended. The seal of a step that gets nothing else comes as an annotation of its pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.layout import STEP as SEAL
from airflow_mlops.operators.contract import CONTAINER_ROOT
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.kubernetes_names import PREFIX, pod_name
from airflow_mlops.operators.kubernetes_pod import Files, Manifest, container_security, literal
from airflow_mlops.operators.kubernetes_state import STAGE_IN, STAGE_OUT
from airflow_mlops.operators.stager_job import job_of, staged

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator

SEAL_UP_TO = 64 << 10
"""Bytes of a seal that is an annotation; Kubernetes takes 256 KiB for all of a pod's."""

_SEALED = f"{PREFIX}/seal"
_FILES, _SEAL_FILE = "mlops", "mlops-seal"
_RESOURCES: Manifest = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}


def fetches(operator: KubernetesStepOperator, attempt: Attempt) -> bool:
    """Whether something has to be brought from the store before the program starts."""
    is_big = attempt.sealed is None or len(attempt.sealed) > SEAL_UP_TO
    return is_big or bool(staged(attempt)) or attempt.has_source or operator.checkpoint


def uploads(operator: KubernetesStepOperator) -> bool:
    """Whether a program leaves something that has to get into the store."""
    return operator.checkpoint or any(output.uri is None for output in operator.outputs.values())


def needs_stager(operator: KubernetesStepOperator, attempt: Attempt) -> bool:
    """Whether an attempt's pod has containers of ours beside the program."""
    return fetches(operator, attempt) or uploads(operator)


def stager_files(
    operator: KubernetesStepOperator,
    attempt: Attempt,
    brought: Mapping[str, str],
    credentials: Mapping[str, str],
    seal_key: str | None = None,
) -> Files:
    """
    What a pod has for files that come from an object store and go there.

    :param brought: keys in the store of inputs that the worker has to bring there, by name
    :param credentials: variables that are in the attempt's secret
    :param seal_key: where the seal lies in the store; ``None``: in the attempt's own folder
    :raises BadStep: if the deployment names no image for them
    """
    root = [{"name": _FILES, "mountPath": CONTAINER_ROOT}, _part("inputs", read_only=True)]
    volumes: list[Manifest] = [{"name": _FILES, "emptyDir": {}}]
    containers: list[Manifest] = []
    annotations: dict[str, str] = {}
    comes, goes = fetches(operator, attempt), uploads(operator)
    if comes or goes:
        common = _stager(operator, attempt, job_of(operator, attempt, brought, seal_key), credentials)
        if comes:
            containers.append({"name": STAGE_IN, "args": ["in"], **common})
        if goes:
            containers.append({"name": STAGE_OUT, "args": ["out"], **_sidecar(), **common})
    else:
        # Nobody else makes the folders that the program finds.
        root += [_part("outputs"), _part("tmp")]
    if not comes:
        assert attempt.sealed is not None  # noqa: S101 - it would be fetched
        annotations[_SEALED] = attempt.sealed.decode()
        item = {"path": SEAL, "fieldRef": {"fieldPath": f"metadata.annotations['{_SEALED}']"}}
        volumes.append({"name": _SEAL_FILE, "downwardAPI": {"items": [item]}})
        root.append({"name": _SEAL_FILE, "mountPath": f"{CONTAINER_ROOT}/{SEAL}", "subPath": SEAL, "readOnly": True})
    return Files(volumes, root, containers, annotations)


def _part(name: str, *, read_only: bool = False) -> Manifest:
    """A folder of the scratch volume, which its node makes if nobody has."""
    mount: Manifest = {"name": _FILES, "mountPath": f"{CONTAINER_ROOT}/{name}", "subPath": name}
    return mount | ({"readOnly": True} if read_only else {})


def _sidecar() -> Manifest:
    # The program starts when the hook has returned: a signal that came before the stager heeds any would be lost, and the outputs with it.
    return {
        "restartPolicy": "Always",
        "lifecycle": {"postStart": {"exec": {"command": ["/stager", "ready"]}}},
    }


def _stager(operator: KubernetesStepOperator, attempt: Attempt, job: str, credentials: Mapping[str, str]) -> Manifest:
    """
    What both containers have in common.

    :param job: see :mod:`~airflow_mlops.operators.stager_job`
    """
    image = attempt.settings.stager_image
    if image is None:
        raise BadStep(
            f"step '{operator.task_id}': on Kubernetes, files come from and go to {attempt.store.url} by a container of its own, and "
            "[mlops] stager_image does not say which; build stager/Dockerfile of this package, push it to your registry, and set the option"
        )
    environment: list[Manifest] = [
        {"name": "MLOPS_STAGER_JOB", "value": literal(job)},
        # Memory of the parts that are under way is given back before the limit of the container is met.
        {"name": "GOMEMLIMIT", "value": "900MiB"},
    ]
    environment += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": pod_name(attempt.id), "key": f"stager.{name}"}}}
        for name in credentials
    ]
    return {
        "image": image,
        "env": environment,
        "resources": _RESOURCES,
        "securityContext": container_security(attempt.settings) | {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": _FILES, "mountPath": CONTAINER_ROOT}],
    }
