# SPDX-License-Identifier: Apache-2.0
"""Which cluster it is, and which of its namespaces: as the keywords of the provider's operator and Airflow's connections say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.connections import database_reachable, find_connection
from airflow_mlops.operators.failures import BadStep

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

CONNECTION_KEYWORDS = ("kubernetes_conn_id", "in_cluster", "cluster_context", "config_file")
"""Keywords of the provider's operator that say which cluster it is."""

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def client_of(keywords: Mapping[str, Any], where: str) -> CoreV1Api:
    """
    A client of a cluster. Each reads tokens and certificates anew.

    :param keywords: of the provider's operator; those that do not say which cluster it is are left aside
    :param where: what it is needed for, as a message begins
    :raises BadStep: if no cluster is known
    """
    from kubernetes.config import ConfigException

    try:
        with database_reachable():
            return _asking_once(hook_of(keywords).core_v1_client)
    except ConfigException as error:
        raise BadStep(
            f"{where}: no Kubernetes cluster is known here: {error}; expected a worker in the cluster, an Airflow connection "
            "'kubernetes_default', or a kubeconfig (KUBECONFIG)"
        ) from error


def namespace_of(keywords: Mapping[str, Any], where: str) -> str:
    """
    The namespace that is meant: the one that is named, that of the connection, the worker's own, or that of its kubeconfig's context.

    :param where: as for :func:`client_of`
    :raises BadStep: if there is no such connection
    """
    if conn_id := keywords.get("kubernetes_conn_id"):
        find_connection(conn_id, f"{where}, kubernetes_conn_id")
    if named := keywords.get("namespace"):
        return str(named)
    with database_reachable():
        hook = hook_of(keywords)
        return hook.get_namespace() or _own_namespace() or _namespace_of_context(hook, keywords) or "default"


def hook_of(keywords: Mapping[str, Any]) -> Any:
    """The provider's own hook for a cluster."""
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    given = {name: keywords[name] for name in CONNECTION_KEYWORDS if name in keywords}
    return KubernetesHook(conn_id=given.pop("kubernetes_conn_id", KubernetesHook.default_conn_name), **given)


def _asking_once(client: CoreV1Api) -> CoreV1Api:
    """
    The client, which asks once: it would ask again by itself, without looking at anything in between, and wait for as long as the answer says
    (``Retry-After``), be it an hour.
    """
    from kubernetes.client.rest import RESTClientObject

    configuration = client.api_client.configuration
    configuration.retries = False
    client.api_client.rest_client = RESTClientObject(configuration)
    return client


def _own_namespace() -> str | None:
    """The namespace of the worker, if it is a pod itself."""
    return _OWN_NAMESPACE.read_text().strip() or None if _OWN_NAMESPACE.exists() else None


def _namespace_of_context(hook: Any, keywords: Mapping[str, Any]) -> str | None:
    """The namespace that a kubeconfig gives with the cluster, as ``kubectl`` takes it."""
    from kubernetes.config import ConfigException, list_kube_config_contexts

    if hook._get_field("kube_config"):
        return None
    file = keywords.get("config_file") or hook._get_field("kube_config_path") or None
    wanted = keywords.get("cluster_context") or hook._get_field("cluster_context")
    try:
        contexts, active = list_kube_config_contexts(config_file=file)
    except (ConfigException, OSError):
        return None  # there is none, which whoever asks for a client is told
    found = next((context for context in contexts if context["name"] == wanted), active)
    return found["context"].get("namespace") or None
