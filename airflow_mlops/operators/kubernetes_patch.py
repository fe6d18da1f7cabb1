# SPDX-License-Identifier: Apache-2.0
"""
What a step adds to its pod, and what of the pod it may not touch: that by which a retry finds it and reads its exit code, and that which
carries files with the store's credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.kubernetes_names import PREFIX
from airflow_mlops.operators.kubernetes_pod import merged
from airflow_mlops.operators.kubernetes_state import STAGE_IN, STAGE_OUT, STEP
from airflow_mlops.spec.problems import did_you_mean

if TYPE_CHECKING:
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator

_OWN_METADATA = frozenset(("name", "namespace", "finalizers", "ownerReferences"))
_OWN_CONTAINERS = (STAGE_IN, STAGE_OUT)
_OWN_VOLUMES = "mlops"
_OF_STEPS = ("image", "command", "args", "workingDir")
"""Of the program's container, what a step says itself: a seal that says otherwise would not be what ran."""


def patch_of(operator: KubernetesStepOperator) -> Mapping[str, Any]:
    """
    What a step adds to its pod: ``pod``, and the keywords that would replace what every pod is given.

    :raises BadStep: if it touches what it may not, or has not the form of a pod
    """
    problem = next(iter(touched(operator)), None)
    if problem is not None:
        raise BadStep(f"step '{operator.task_id}': {problem}")
    return merged({"spec": _by_keywords(operator.pod_keywords)}, operator.pod or {})  # type: ignore[no-any-return]


def touched(operator: KubernetesStepOperator) -> Iterator[str]:
    """What a step touches that it may not, each thing by itself."""
    patch = operator.pod or {}
    metadata, spec = (patch.get(name, {}) for name in ("metadata", "spec"))
    if not isinstance(metadata, Mapping) or not isinstance(spec, Mapping):
        yield "'pod' is no pod; expected mappings as 'metadata' and 'spec'"
        return
    yield from _touched_metadata(metadata, operator.pod_keywords)
    yield from _touched_containers(spec)


def _by_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    of_pod, of_container = keywords.get("security_context"), keywords.get("container_security_context")
    spec: dict[str, Any] = {}
    if isinstance(of_pod, Mapping):
        spec["securityContext"] = dict(of_pod)
    if isinstance(of_container, Mapping):
        spec["containers"] = [{"name": STEP, "securityContext": dict(of_container)}]
    return spec


def _touched_metadata(metadata: Mapping[str, Any], keywords: Mapping[str, Any]) -> Iterator[str]:
    for given in (*map(metadata.get, ("labels", "annotations")), *map(keywords.get, ("labels", "annotations"))):
        for name in given if isinstance(given, Mapping) else ():
            if str(name).startswith(f"{PREFIX}/"):
                yield f"label or annotation '{name}' is our own; expected a name of another prefix"
    for name in sorted(_OWN_METADATA & metadata.keys()):
        yield (
            f"'pod' sets metadata.{name}, by which a retry finds the pod and reads its exit code; "
            "leave it out (the namespace is 'namespace' in 'kubernetes')"
        )


def _touched_containers(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in _items(spec, "volumes"):
        if str(volume.get("name")).startswith(_OWN_VOLUMES):
            yield f"'pod' changes volume '{volume['name']}', which is our own; expected another name"
    for container in (*_items(spec, "containers"), *_items(spec, "initContainers")):
        if container.get("name") in _OWN_CONTAINERS and not container.keys() <= {"name", "resources"}:
            yield (
                f"'pod' changes container '{container['name']}', which carries files with the store's credentials; only its 'resources' can be set"
            )
        yield from _touched_program(container)
        for mount in _items(container, "volumeMounts"):
            if str(mount.get("name")).startswith(_OWN_VOLUMES):
                yield f"'pod' mounts volume '{mount['name']}', which is our own; expected another one"


def _touched_program(container: Mapping[str, Any]) -> Iterator[str]:
    name = container.get("name")
    if name == STEP:
        for key in _OF_STEPS:
            if key in container:
                yield f"'pod' sets {key} of container '{STEP}'; expected the step's own 'image', 'command' and 'args' to say what it runs"
    elif name not in _OWN_CONTAINERS and "image" not in container:
        near = did_you_mean(str(name), [STEP])
        yield f"'pod' has a container '{name}' without an image; expected one with an image, or '{STEP}' for the program's{near}"


def _items(mapping: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    found = mapping.get(name)
    return (item for item in (found if isinstance(found, list) else ()) if isinstance(item, Mapping))
