# SPDX-License-Identifier: Apache-2.0
"""
What the steps of a deployment, or of a local run, may have left in a cluster: pods, and secrets that have lost theirs.

Found by the instance id that each carries, and by its name, which its annotations must give. Whether it may go is not for this module to say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airflow_mlops.artifacts.layout import STEP
from airflow_mlops.cli.abandoned import GRACE, Left, left, task_of
from airflow_mlops.cli.kubernetes_cluster import Cluster, pods_in, secrets_in
from airflow_mlops.operators.identity import LABEL

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Seal, Store
    from airflow_mlops.operators.kubernetes_api import Pods

_SECONDS = 30
"""How long the API server may be away while something is removed."""

_SOON = 1
"""Seconds for a program of a run that is over, and that nobody waits for."""


def in_kubernetes(cluster: Cluster, store: Store, instance: str) -> Iterator[Left]:
    """
    Pods, and secrets without one.

    :raises CommandError: if the API server does not say which there are
    """
    from airflow_mlops.operators.kubernetes_names import (
        INSTANCE,
        MANAGED,
        label_value,
        words_of,
    )
    from airflow_mlops.operators.kubernetes_state import status_of

    mine = {MANAGED: "true", INSTANCE: label_value(instance)}
    for namespace in cluster.namespaces:
        # In this order: the pod of a secret that is seen is seen, too.
        secrets = secrets_in(cluster, namespace, mine)
        if secrets is None:
            _say_that_secrets_stay(namespace)
        pods = pods_in(cluster, namespace, mine)
        for pod in pods:
            words, name = words_of(pod.metadata.annotations), pod.metadata.name
            if not _is_of(instance, name, words):
                continue
            runs = not status_of(pod, _step(words)).is_over
            remove = partial(_end_pod, cluster, namespace, name, words, _grace_of(words))
            found = left(f"pod {namespace}/{name}", words, store, instance, remove, runs=runs)
            # Who looked around in a pod that is over has left it.
            yield replace(found, alive=runs and found.alive)
        there = {pod.metadata.name for pod in pods}
        for secret in secrets or ():
            words, name = words_of(secret.get("annotations")), str(secret["name"])
            if name not in there and _is_of(instance, name, words):
                remove = partial(_remove_secret, cluster, namespace, name, words)
                yield left(f"secret {namespace}/{name}", words, store, instance, remove, runs=False)


def _is_of(instance: str, name: str, words: Mapping[str, str]) -> bool:
    from airflow_mlops.operators.kubernetes_names import is_named_by

    return words.get(f"{LABEL}.instance") == instance and is_named_by(name, words)


def _grace_of(words: Mapping[str, str]) -> int:
    """Seconds that the step of a pod gives its program. Somebody waits for them, so there are not more than its uploads would get."""
    from airflow_mlops.operators.kubernetes_names import STOP_GRACE
    from airflow_mlops.operators.kubernetes_pod import UPLOAD_GRACE

    text = words.get(f"{LABEL}.{STOP_GRACE}", "")
    return min(int(text), UPLOAD_GRACE) if re.fullmatch("[0-9]{1,9}", text) else GRACE


def _say_that_secrets_stay(namespace: str) -> None:
    click.echo(
        f"secrets of namespace '{namespace}' are not looked for: this account may not list them, and docs/kubernetes-person-role.yaml "
        "has the right that is missing",
        err=True,
    )


def remove_pod_of(folder: Path, instance: str) -> str | None:
    """
    Remove the pod that the scratch folder of an attempt of a local run, or of a visit to one, belongs to, and its secret.

    :return: what was removed, in words; ``None`` if there is no pod
    :raises Exception: if its cluster cannot be asked: what the client or Airflow says of that
    """
    seal = _seal_of(folder)
    if seal is None or seal.runtime is None or seal.step.runtime != "kubernetes":
        return None
    from airflow_mlops.operators.connections import do_without_database
    from airflow_mlops.operators.kubernetes_connection import namespace_of
    from airflow_mlops.operators.kubernetes_names import words_of

    do_without_database()
    keywords, name = seal.runtime.kubernetes, folder.name
    namespace = namespace_of(keywords, f"pod {name}")
    cluster = Cluster((namespace,), keywords)
    pods = _pods(cluster, namespace, {})
    try:
        pod = pods.read(name)
        if pod is None:
            # Its worker may have died between the two.
            return f"secret {namespace}/{name}" if pods.delete_secret(name) else None
        words = words_of(pod.metadata.annotations)
    finally:
        pods.close()
    if not _is_of(instance, name, words):
        return None
    _end_pod(cluster, namespace, name, words, _SOON)
    return f"pod {namespace}/{name}"


def _seal_of(folder: Path) -> Seal | None:
    from airflow_mlops.artifacts import ArtifactError, Seal

    try:
        with (folder / STEP).open("rb") as file:
            return Seal.from_bytes(file.read(Seal.limit + 1))
    except (OSError, ArtifactError):
        return None


def _end_pod(cluster: Cluster, namespace: str, name: str, words: Mapping[str, str], grace: int) -> None:
    from airflow_mlops.operators.kubernetes_earlier import remove

    pods = _pods(cluster, namespace, words)
    try:
        remove(pods, name, _step(words), grace)
    finally:
        pods.close()


def _remove_secret(cluster: Cluster, namespace: str, name: str, words: Mapping[str, str]) -> None:
    pods = _pods(cluster, namespace, words)
    try:
        if pods.read(name) is not None:
            raise OSError("its pod is there by now")
        pods.delete_secret(name)
    finally:
        pods.close()


def _pods(cluster: Cluster, namespace: str, words: Mapping[str, str]) -> Pods:
    from airflow_mlops.operators.kubernetes_api import Pods

    log = logging.getLogger(__name__)
    return Pods(cluster.client, namespace, seconds=_SECONDS, task_id=_step(words), log=log, check=_nothing)


def _nothing() -> None:
    """Nobody has to be asked whether to wait on."""


def _step(words: Mapping[str, str]) -> str:
    task = task_of(words)
    return task.task if task is not None else "airflow-mlops shell"
