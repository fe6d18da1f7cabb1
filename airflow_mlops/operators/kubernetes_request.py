# SPDX-License-Identifier: Apache-2.0
"""
The pod that is asked for: the manifest of an attempt with what the step adds to it, as the provider's operator and the deployment complete it.

Nothing here asks anybody or writes anything. A worker makes the pod that it creates here, and a command the one that it shows or checks, with
stand-ins for what a run alone knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.failures import BadStep, CannotStart
from airflow_mlops.operators.kubernetes_files import stager_files
from airflow_mlops.operators.kubernetes_names import pod_name
from airflow_mlops.operators.kubernetes_patch import patch_of
from airflow_mlops.operators.kubernetes_pod import Files, Manifest, manifest_of, merged
from airflow_mlops.operators.kubernetes_state import STEP
from airflow_mlops.operators.kubernetes_volumes import shares_files, volume_files
from airflow_mlops.spec.problems import did_you_mean

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator

Path = tuple[str | int, ...]
"""Names and indexes from a pod to one of its fields."""

PARTS = {
    "affinity": "affinity",
    "dns_config": "dnsConfig",
    "host_aliases": "hostAliases",
    "image_pull_secrets": "imagePullSecrets",
    "tolerations": "tolerations",
}
"""Keywords that are parts of a pod's specification, and their names there."""

_MERGED_HERE = ("namespace", "security_context", "container_security_context")
"""Keywords that the provider's operator would put in place of the whole, or that it is given otherwise."""


def requested(
    operator: KubernetesStepOperator, attempt: Attempt, brought: Mapping[str, str], credentials: Mapping[str, str]
) -> Manifest:
    """
    The manifest of an attempt, with what its step adds.

    :param brought: keys in the store of inputs that the worker has to bring there, by name
    :param credentials: variables of the stager that are in the attempt's secret
    :raises BadStep: if what the step asks for is no pod
    """
    files = files_of(operator, attempt, brought, credentials)
    manifest: Manifest = merged(manifest_of(operator, attempt, files), patch_of(operator))
    return manifest


def files_of(
    operator: KubernetesStepOperator,
    attempt: Attempt,
    brought: Mapping[str, str],
    credentials: Mapping[str, str],
    seal_key: str | None = None,
) -> Files:
    """
    What a pod has for the way on which an attempt's files travel.

    :param brought: as for :func:`requested`, like the next one
    :param seal_key: where the seal lies in the store; ``None``: in the attempt's own folder
    """
    if shares_files(attempt):
        return volume_files(operator, attempt)
    return stager_files(operator, attempt, brought, credentials, seal_key)


def completed(operator: KubernetesStepOperator, attempt: Attempt, manifest: Manifest, hook: Any) -> V1Pod:
    """
    The pod as the provider's operator makes it of a manifest, with its keywords and labels.

    :param hook: the provider's, which says what the connection knows
    :raises BadStep: if the manifest has fields that no pod has, or of the wrong form
    :raises CannotStart: if the deployment's own hook has made it another one
    """
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    try:
        if unknown := unknown_fields(manifest, operator.pod_keywords):
            raise BadStep(no_such_field(operator, unknown[0]))
        keywords = {name: value for name, value in operator.pod_keywords.items() if name not in _MERGED_HERE}
        provider = KubernetesPodOperator(
            task_id=operator.task_id,
            name=pod_name(attempt.id),
            random_name_suffix=False,
            base_container_name=STEP,
            full_pod_spec=PodGenerator.deserialize_model_dict(manifest),
            namespace=operator.pod_keywords.get("namespace"),
            do_xcom_push=False,
            **keywords,
        )
        provider.hook = hook
        pod = provider.build_pod_request_obj(operator.context_of_try)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadStep(f"step '{operator.task_id}': 'kubernetes' and 'pod' make no pod: {error}") from error
    if pod.metadata.name != pod_name(attempt.id) or not any(one.name == STEP for one in pod.spec.containers):
        raise CannotStart(
            f"step '{operator.task_id}': this deployment's pod_mutation_hook has renamed its pod or its container; a retry could not find them"
        )
    return pod


def as_manifest(pod: V1Pod) -> Manifest:
    """A pod in Kubernetes' own words, without what is not set."""
    from kubernetes.client import ApiClient

    manifest: Manifest = ApiClient().sanitize_for_serialization(pod)
    return manifest


def unknown_fields(manifest: Manifest, keywords: Mapping[str, Any]) -> list[Path]:
    """
    Paths of fields that the client's models do not know, in a manifest and in keywords that are parts of one: the provider's operator, or
    the server, would leave them out without a word.

    :raises ValueError: if the manifest has not the form of a pod
    """
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    given = {field: keywords[name] for name, field in PARTS.items() if _is_plain(keywords.get(name))}
    found: dict[Path, None] = {}
    for spec in (manifest["spec"], {**manifest["spec"], **given}):
        whole = {**manifest, "spec": spec}
        found.update(dict.fromkeys(_lost(whole, as_manifest(PodGenerator.deserialize_model_dict(whole)))))
    return list(found)


def _is_plain(value: Any) -> bool:
    """Whether a keyword is given in Kubernetes' own words, and not as an object of the client."""
    return isinstance(value, Mapping) or (isinstance(value, list) and all(isinstance(item, Mapping) for item in value))


def no_such_field(operator: KubernetesStepOperator, path: Path) -> str:
    """What is said of a field that no pod has."""
    near = did_you_mean(str(path[-1]), _fields_beside(path))
    return f"step '{operator.task_id}': no pod has a field {_written(path)}; expected the names of Kubernetes' own manifests{near}"


def _fields_beside(path: Path) -> list[str]:
    """Names that a field could have where one is that no pod has."""
    from kubernetes import client

    model: Any = client.V1Pod
    for part in path[:-1]:
        if isinstance(part, str) and model is not None:
            attribute = next((name for name, known in model.attribute_map.items() if known == part), "")
            kind = model.openapi_types.get(attribute, "")
            model = getattr(client, kind.removeprefix("list[").removesuffix("]"), None)
    return list(model.attribute_map.values()) if model is not None else []


def _written(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _lost(given: Any, kept: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of fields that the client's models do not know."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            if value in (None, [], {}):
                continue
            if not isinstance(kept, Mapping) or name not in kept:
                yield (*path, name)
            else:
                yield from _lost(value, kept[name], (*path, name))
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=False)):
            yield from _lost(one, other, (*path, index))
