# SPDX-License-Identifier: Apache-2.0
"""How the pod of an attempt comes to be, by which way its files travel, and what is read from it when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import NotFound
from airflow_mlops.artifacts.outputs import Collected
from airflow_mlops.artifacts.uploads import collect_uploaded
from airflow_mlops.operators.failures import CannotStart, InfrastructureFailure, PolicyViolation, Superseded
from airflow_mlops.operators.kubernetes_api import Pods
from airflow_mlops.operators.kubernetes_connection import client_of, hook_of, namespace_of
from airflow_mlops.operators.kubernetes_earlier import remove
from airflow_mlops.operators.kubernetes_files import needs_stager, uploads
from airflow_mlops.operators.kubernetes_names import annotations_of, labels_of, pod_name
from airflow_mlops.operators.kubernetes_pod import secret_keys
from airflow_mlops.operators.kubernetes_request import as_manifest, completed, requested
from airflow_mlops.operators.kubernetes_state import STEP, upload_failure
from airflow_mlops.operators.kubernetes_volumes import open_folders, shares_files
from airflow_mlops.operators.ownership import ensure_owner
from airflow_mlops.operators.policy_pods import check_pod
from airflow_mlops.operators.stager_job import bring_local_inputs, credentials_of, drop_local_inputs, staged

if TYPE_CHECKING:
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
    Create the pod of an attempt, and a secret of its own if it needs one. It does not run before :func:`start_pod`.

    :return: the pod
    :raises BadStep: if what the step asks for is no pod
    :raises PolicyViolation: if it asks for more than the deployment gives
    """
    credentials, brought = bring_files(operator, attempt)
    secrets = secret_keys(attempt, credentials)
    pod = completed(
        operator, attempt, requested(operator, attempt, brought, credentials), hook_of(operator.pod_keywords)
    )
    check_pod(operator, attempt.settings, as_manifest(pod))
    operator.about_to_create(attempt)
    return create_with_secret(operator, attempt, pods, pod, secrets)


def bring_files(operator: KubernetesStepOperator, attempt: Attempt) -> tuple[dict[str, str], dict[str, str]]:
    """
    Put an attempt's files to where its pod finds them.

    :return: what the stager needs to fetch them, and keys in the store of inputs that were brought there, by name
    """
    if shares_files(attempt):
        open_folders(attempt)
        return {}, {}
    credentials = credentials_of(attempt.settings) if needs_stager(operator, attempt) else {}
    return credentials, bring_local_inputs(attempt)


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
    except (CannotStart, PolicyViolation, Superseded):
        # No pod is there to take its secret along when it goes.
        if secrets:
            pods.delete_secret(name)
        raise
    if secrets:
        pods.give_secret(name, created)
    return created


def start_pod(operator: KubernetesStepOperator, attempt: Attempt, pods: Pods) -> None:
    """
    Let the pod of an attempt go to its node, unless another try has begun while it was created: that one may have looked for pods before this
    one was there, and two of them would run.

    :raises Superseded: if so; the pod is removed
    """
    name = pod_name(attempt.id)
    try:
        # Before anything is logged, which fails where the supervisor is gone.
        operator.check_in(attempt)
        ensure_owner(attempt)
    except Superseded:
        remove(pods, name, operator.task_id, 0)
        raise
    pods.open_gate(name)
    operator.log.info("Pod %s in namespace %s", name, pods.namespace)


def collected(operator: KubernetesStepOperator, attempt: Attempt, pod: Any) -> Collected:
    """
    What a program that ended well has left in the store.

    :raises InfrastructureFailure: if it did not get there
    :raises OutputInvalid: if something is missing or wrong
    """
    if staged(attempt):
        drop_local_inputs(attempt.store, attempt.key)
    if not uploads(operator):
        return Collected()
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
