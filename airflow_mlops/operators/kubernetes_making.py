# SPDX-License-Identifier: Apache-2.0
"""How the pod of an attempt comes to be, by which way its files travel, and what is read from it when it has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import NotFound
from airflow_mlops.artifacts.uploads import collect_uploaded
from airflow_mlops.operators.failures import BadStep, CannotStart, InfrastructureFailure, PolicyViolation
from airflow_mlops.operators.kubernetes_api import Pods
from airflow_mlops.operators.kubernetes_connection import client_of, namespace_of
from airflow_mlops.operators.kubernetes_names import annotations_of, labels_of, pod_name
from airflow_mlops.operators.kubernetes_patch import patch_of
from airflow_mlops.operators.kubernetes_pod import manifest_of, merged, secret_keys, stager_files
from airflow_mlops.operators.kubernetes_state import STEP, upload_failure
from airflow_mlops.operators.kubernetes_volumes import volume_files
from airflow_mlops.operators.policy_pods import check_pod
from airflow_mlops.operators.stager_job import bring_local_inputs, credentials_of, drop_local_inputs, job_of

if TYPE_CHECKING:
    from airflow_mlops.artifacts.outputs import Collected
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator


def connect(operator: KubernetesStepOperator, attempt: Attempt, seconds: float | None = None) -> Pods:
    """
    The pods of the step's namespace.

    :param seconds: how long the API server may be away; default what the deployment says
    """
    keywords, where = operator.pod_keywords, f"step '{operator.task_id}'"
    return Pods(
        lambda: client_of(keywords, where),
        namespace_of(keywords, where),
        seconds=attempt.settings.daemon_patience if seconds is None else seconds,
        task_id=operator.task_id,
        log=operator.log,
        check=lambda: operator.check_in(attempt),
    )


def create_pod(operator: KubernetesStepOperator, attempt: Attempt, pods: Pods) -> Any:
    """
    Create the pod of an attempt, and a secret of its own if it needs one.

    :return: the pod
    :raises BadStep: if what the step asks for is no pod
    :raises PolicyViolation: if it asks for more than the deployment gives
    """
    files, credentials = files_of(operator, attempt)
    secrets = secret_keys(attempt, credentials)
    manifest = merged(manifest_of(operator, attempt, files), patch_of(operator))
    pod = provider_pod(operator, attempt, manifest)
    operator.about_to_create(attempt)
    created = create_with_secret(operator, attempt, pods, pod, secrets)
    operator.log.info("Pod %s in namespace %s", created.metadata.name, pods.namespace)
    return created


def files_of(
    operator: KubernetesStepOperator, attempt: Attempt, seal_key: str | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """
    The way on which an attempt's files travel.

    :param seal_key: where the seal lies in the store; ``None``: in the attempt's own folder
    :return: what the pod has for it, and the credentials that this takes
    """
    if attempt.store.local_path(attempt.key) is not None:
        return volume_files(operator, attempt), {}
    credentials = credentials_of(attempt.settings)
    job = job_of(operator, attempt, bring_local_inputs(attempt), seal_key)
    return stager_files(operator, attempt, job, credentials), credentials


def create_with_secret(
    operator: KubernetesStepOperator, attempt: Attempt, pods: Pods, pod: Any, secrets: Mapping[str, str]
) -> Any:
    """
    Create a pod, and before it the secret that it refers to, if it has one; the secret is the pod's own from then on.

    :return: the pod
    :raises CannotStart: if it is not a pod that the server takes
    :raises PolicyViolation: if an admission rule or a role refuses it
    """
    name = pod_name(attempt.id)
    if secrets:
        metadata = {
            "labels": labels_of(attempt.identity, attempt.id, operator.kind),
            "annotations": annotations_of(attempt.identity, attempt.id),
        }
        pods.create_secret(name, secrets, metadata)
    try:
        created = pods.create(pod)
    except (CannotStart, PolicyViolation):
        # Nothing else says that there is no pod, which would wait for its secret for ever.
        if secrets:
            pods.delete_secret(name)
        raise
    if secrets:
        pods.give_secret(name, created)
    return created


_MERGED_HERE = ("namespace", "security_context", "container_security_context")
"""Keywords that the provider's operator would put in place of the whole, or that it is given otherwise."""


def provider_pod(operator: KubernetesStepOperator, attempt: Attempt, manifest: dict[str, Any]) -> Any:
    """
    The pod as the provider's operator makes it of a manifest, with its keywords and labels, after the policy has looked at it.

    :raises BadStep: if the manifest has fields that no pod has, or of the wrong form
    """
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client import ApiClient

    serialise = ApiClient().sanitize_for_serialization
    try:
        model = PodGenerator.deserialize_model_dict(manifest)
        if unknown := next(_lost(manifest, serialise(model)), None):
            raise BadStep(
                f"step '{operator.task_id}': 'pod' has no field {unknown}; expected the names of Kubernetes' own manifests"
            )
        keywords = {name: value for name, value in operator.pod_keywords.items() if name not in _MERGED_HERE}
        provider = KubernetesPodOperator(
            task_id=operator.task_id,
            name=pod_name(attempt.id),
            random_name_suffix=False,
            base_container_name=STEP,
            full_pod_spec=model,
            namespace=operator.pod_keywords.get("namespace"),
            do_xcom_push=False,
            **keywords,
        )
        pod = provider.build_pod_request_obj(operator.context_of_try)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadStep(f"step '{operator.task_id}': 'kubernetes' and 'pod' make no pod: {error}") from error
    made = serialise(pod)
    if pod.metadata.name != pod_name(attempt.id) or not any(one["name"] == STEP for one in made["spec"]["containers"]):
        raise CannotStart(
            f"step '{operator.task_id}': this deployment's pod_mutation_hook has renamed its pod or its container; a retry could not find them"
        )
    check_pod(operator, attempt.settings, made)
    return pod


def _lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Paths of fields that the client's models do not know."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            if value in (None, [], {}):
                continue
            if not isinstance(kept, Mapping) or name not in kept:
                yield f"{path}.{name}".lstrip(".")
            else:
                yield from _lost(value, kept[name], f"{path}.{name}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=False)):
            yield from _lost(one, other, f"{path}[{index}]")


def collected(operator: KubernetesStepOperator, attempt: Attempt, pod: Any) -> Collected:
    """
    What a program that ended well has left in the store.

    :raises InfrastructureFailure: if it did not get there
    :raises OutputInvalid: if something is missing or wrong
    """
    drop_local_inputs(attempt.store, attempt.key)
    try:
        return collect_uploaded(attempt.store, attempt.key, operator.outputs)
    except NotFound as error:
        failure = upload_failure(pod, operator.task_id)
        raise failure or InfrastructureFailure(
            f"step '{operator.task_id}': its program ended well, but there is no record of its outputs in the store: {error}"
        ) from error


def facts_of(pod: Any) -> dict[str, Any]:
    """What the manifest says of where a program ran."""
    program = next((one for one in pod.status.container_statuses or () if one.name == STEP), None)
    facts = {
        "image": next((one.image for one in pod.spec.containers if one.name == STEP), None),
        "image_id": program.image_id if program is not None else None,
        "pod": pod.metadata.name,
        "namespace": pod.metadata.namespace,
        "node": pod.spec.node_name,
    }
    return {name: value for name, value in facts.items() if value}


def image_id_of(pod: Any) -> str | None:
    """Id of the image that a program was started from."""
    return facts_of(pod).get("image_id")


def sealed_pod(operator: KubernetesStepOperator, attempt: Attempt) -> dict[str, Any]:
    """What a step's keywords and patch change of how its program runs; fields of ``SealedStep``."""
    from airflow_mlops.operators.kubernetes_pod import user_of_pods

    invocation = attempt.invocation
    return {
        "mounts": [f"{item.source}:{item.target}{':ro' if item.read_only else ''}" for item in operator.volumes],
        "user": str(user_of_pods()),
        "working_dir": invocation.working_directory if invocation else None,
    }


def sealed_surroundings(operator: KubernetesStepOperator) -> dict[str, Any]:
    """Keywords that make an operator whose pods are like this one's; an author may have given what is no JSON, and that is left out."""
    import json

    values = {**operator.pod_keywords, "pod": operator.pod, "gpu_resource": operator.gpu_resource}
    found = {}
    for name, value in values.items():
        try:
            found[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return {name: value for name, value in found.items() if value is not None}
