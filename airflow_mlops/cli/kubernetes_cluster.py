# SPDX-License-Identifier: Apache-2.0
"""
The cluster that commands talk to, where a deployment has one: the one that its steps would.

A deployment whose settings name neither a stager's image nor a shared volume can have made no pod: there would be no way for its files. So
without one of them, or an option that says so, no cluster is looked for, whatever kubeconfig a person has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.errors import CommandError
from airflow_mlops.operators.kubernetes_names import selector_of

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

    from airflow_mlops.operators.settings import Settings

_WHERE = "clean"
_TIMEOUT = (10, 60)
"""Seconds for a connection to the API server, and for one answer."""

_FORBIDDEN = 403
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PATTERN = frozenset("*?[")
_NOTHING = "; nothing was removed, since whether programs run is not known"


@dataclass(frozen=True, slots=True)
class Cluster:
    """
    Where pods of a deployment may be.

    :param keywords: which cluster it is, as the provider's operator is told
    :param namespaces: of it
    """

    namespaces: tuple[str, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        conn_id = self.keywords.get("kubernetes_conn_id")
        named = f"namespace{'s' if self.namespaces[1:] else ''} {', '.join(self.namespaces)}"
        return f"{named} of connection '{conn_id}'" if conn_id else named

    def client(self) -> CoreV1Api:
        """
        A client that reads tokens and certificates anew.

        :raises BadStep: if no cluster is known
        """
        from airflow_mlops.operators.kubernetes_connection import client_of

        return client_of(self.keywords, _WHERE)


@dataclass(frozen=True, slots=True)
class Wish:
    """
    Which cluster somebody asks for.

    :param wanted: whether one is to be looked at; ``None``: where the deployment can have made a pod
    :param conn_id: the connection that says which; ``None`` for the operators' own default
    :param namespaces: of it; those that steps are in if there are none
    """

    wanted: bool | None = None
    conn_id: str | None = None
    namespaces: tuple[str, ...] = ()


def cluster_of(settings: Settings, wish: Wish) -> Cluster | None:
    """
    The cluster of a deployment; ``None`` where it has none.

    :raises CommandError: if what talks to it is not installed, or the connection does not exist
    """
    has_one = wish.wanted or wish.conn_id or wish.namespaces or settings.stager_image or settings.kubernetes_volumes
    if wish.wanted is False or not has_one:
        return None
    keywords = {"kubernetes_conn_id": wish.conn_id} if wish.conn_id else {}
    with asking("to say which namespace is meant"):
        from airflow_mlops.operators.kubernetes_connection import namespace_of

        named = tuple(name for name in settings.allowed_namespaces if not _PATTERN & set(name))
        namespaces = wish.namespaces or (namespace_of(keywords, _WHERE), *named)
    return Cluster(tuple(dict.fromkeys(namespaces)), keywords)


@contextmanager
def asking(what: str) -> Iterator[None]:
    """
    Within, what keeps a cluster from being asked ends the command: whether programs run is then not known.

    :param what: what is done, as the message says it after "the cluster"
    :raises CommandError: then
    """
    from airflow.providers.common.compat.sdk import AirflowException

    try:
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError
    except ModuleNotFoundError as error:
        raise CommandError(
            f"steps of this deployment can run on Kubernetes, and {error.name} is not installed here; expected: pip install "
            f"'airflow-provider-mlops[kubernetes]', or --no-kubernetes{_NOTHING}"
        ) from error
    try:
        yield
    except ApiException as error:
        raise CommandError(f"the Kubernetes API server refused {what}: {_said(error)}{_NOTHING}") from error
    except (HTTPError, OSError) as error:
        raise CommandError(f"the Kubernetes API server does not answer: {error}{_NOTHING}") from error
    except (AirflowException, ConfigException, ModuleNotFoundError) as error:
        raise CommandError(f"{error}; --no-kubernetes looks at no cluster{_NOTHING}") from error


def pods_in(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> Sequence[Any]:
    """
    Pods with some labels.

    :raises CommandError: if the API server does not say it
    """
    with asking(
        f"to list the pods of namespace '{namespace}' (docs/kubernetes-person-role.yaml has the rights for that)"
    ):
        core = cluster.client()
        answer = core.list_namespaced_pod(namespace, label_selector=selector_of(labels), _request_timeout=_TIMEOUT)
        core.api_client.close()
    found: Sequence[Any] = answer.items
    return found


def secrets_in(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """
    Metadata of the secrets with some labels; what is in them is not asked for. ``None`` if this account may not list any.

    :raises CommandError: if the API server does not say it
    """
    with asking(f"to list the secrets of namespace '{namespace}'"):
        from kubernetes.client import ApiException

        core = cluster.client()
        core.api_client.set_default_header("Accept", _METADATA)
        try:
            answer = core.list_namespaced_secret(
                namespace, label_selector=selector_of(labels), _request_timeout=_TIMEOUT, _preload_content=False
            )
        except ApiException as error:
            if error.status == _FORBIDDEN:
                return None
            raise
        finally:
            core.api_client.close()
    return [item["metadata"] for item in json.loads(answer.data)["items"]]


def _said(error: Any) -> str:
    from airflow_mlops.operators.kubernetes_api import message_of

    return message_of(error)
