# SPDX-License-Identifier: Apache-2.0
"""
``clean --deployment``: remove what crashes left in the deployment that is configured here.

What may go is decided by the Airflow that owns it: only what belongs to a task instance that it calls finished, and that is neither alive
nor committed nor kept as evidence. Right before something is removed, its task is looked up once more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.docker_host import connect, docker_url
from airflow_mlops.cli.errors import FAILED, SUCCESS, CommandError
from airflow_mlops.cli.kubernetes_cluster import Wish, cluster_of
from airflow_mlops.cli.task_states import Task, TaskState, ask_airflow

if TYPE_CHECKING:
    from docker import APIClient

    from airflow_mlops.cli.abandoned import Left

DEFAULT_AGE = timedelta(hours=1)
"""A task process may take a while to end after its task has."""

_UNKNOWN = "Airflow does not know its task"
_RUNS = "its program runs"

_NAMED = 3
"""Tasks that are named where the rest is counted."""

_SECONDS = 60
"""For one answer of the Docker daemon."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    What was asked for.

    :param age: how long a task must have ended before
    :param dags: DAG ids; all if there are none
    :param docker_url: the daemon; ``None`` for that of the connection, or of the environment
    :param stop_running: also end programs that run on although their task has ended
    :param docker_host_conn_id: the connection that says which daemon; ``None`` for that of the deployment
    :param cluster: which Kubernetes cluster to look at
    """

    age: timedelta
    dags: tuple[str, ...]
    docker_url: str | None
    stop_running: bool
    docker_host_conn_id: str | None = None
    cluster: Wish = Wish()


def clean_deployment(request: Request, *, remove: bool) -> int:
    """
    Find what is left over, say so and, if asked to, remove it.

    :return: the exit code
    :raises CommandError: if Airflow's database, the Docker daemon or the cluster cannot be asked
    """
    found = _find(request)
    states = ask_airflow({one.task for one in found if one.task is not None})
    alive = {one.attempt for one in found if one.alive}
    reasons = [_why_it_stays(one, states, alive, request) for one in found]
    chosen = [one for one, reason in zip(found, reasons, strict=True) if reason is None]
    done, broken = 0, set[str]()
    for one in chosen:
        if not remove:
            _say(one, "would be ended and removed" if one.alive else "would be removed")
        elif one.attempt in broken:
            # Its program may still run, and would work on what is removed next.
            _say(one, "stays: something else of its attempt could not be removed")
        else:
            outcome = _try_to_remove(one, alive, request)
            done += outcome is True
            broken |= {one.attempt} if outcome is False else set()
    _say_what_stays(found, reasons)
    count = done if remove else len(chosen)
    words = f"{count} thing{'s' if count != 1 else ''}"
    hint = "; remove with --yes" if chosen and not remove else ""
    click.echo(f"{words} {'removed' if remove else 'would be removed'}{hint}")
    return FAILED if broken else SUCCESS


def _find(request: Request) -> list[Left]:
    """All that carries the id of this deployment; programs come before the files that they work on."""
    from airflow_mlops.artifacts import encode_component, known_instance
    from airflow_mlops.cli.abandoned import in_docker, in_scratch, in_store
    from airflow_mlops.cli.abandoned_pods import in_kubernetes
    from airflow_mlops.operators.settings import load_settings

    settings = load_settings()
    store = settings.open_store()
    instance = known_instance(store, settings.instance)
    if instance is None:
        click.echo(f"nothing has run yet in the deployment whose store is {store.url}; is AIRFLOW_HOME set?", err=True)
        return []
    if not store.exists(encode_component(instance)):
        raise CommandError(
            f"the store {store.url} holds nothing of instance {instance}; nothing was removed, since what is kept or committed is not known: "
            "is it mounted?"
        )
    found: list[Left] = []
    conn_id = None if request.docker_url else request.docker_host_conn_id or settings.docker_host_conn_id
    url = f"of connection '{conn_id}'" if conn_id else request.docker_url or docker_url()
    cluster = cluster_of(settings, request.cluster)
    click.echo(
        f"instance {instance}, store {store.url}, database of {os.environ.get('AIRFLOW_HOME') or '~/airflow'}, "
        f"{f'Docker daemon {url}' if url else 'no Docker daemon: containers and volumes are not looked for'}, "
        f"{f'Kubernetes {cluster}' if cluster else 'no Kubernetes: pods are not looked for'}",
        err=True,
    )
    if url is not None:
        found += in_docker(_daemon_of(conn_id) if conn_id else _daemon(url), store, instance)
    if cluster is not None:
        found += in_kubernetes(cluster, store, instance)
    found += in_scratch(settings.work_dir, store, instance)
    found += in_store(store, instance, request.dags)
    return [one for one in found if not request.dags or (one.task is not None and one.task.dag in request.dags)]


def _daemon(url: str) -> APIClient:
    """
    A connection to a Docker daemon.

    :raises CommandError: if it does not answer: whether programs run is then not known
    """
    from docker.errors import DockerException

    try:
        return connect(url, _SECONDS)
    except DockerException as error:
        raise CommandError(
            f"the Docker daemon at {url} does not answer: {error}; nothing was removed, since whether programs run is not known"
        ) from error


def _daemon_of(conn_id: str) -> APIClient:
    """
    A connection to the Docker daemon that an Airflow connection names.

    :raises CommandError: if it does not answer: whether programs run is then not known
    """
    from docker.errors import DockerException

    from airflow_mlops.operators.docker_connection import named_host, why_not
    from airflow_mlops.operators.failures import BadStep

    try:
        host = named_host(conn_id)
    except BadStep as error:
        raise CommandError(f"{error}; nothing was removed, since whether programs run is not known") from error
    try:
        return host.connect(version="auto", timeout=_SECONDS)
    except DockerException as error:
        raise CommandError(
            f"{why_not(host, conn_id)}; nothing was removed, since whether programs run is not known"
        ) from error


def _why_it_stays(one: Left, states: Mapping[Task, TaskState], alive: set[str], request: Request) -> str | None:
    """Why something is not to be removed; ``None`` if it is."""
    if one.task is None:
        return "somebody looks around in it" if one.attempt in alive else None
    reason = _why_it_is_not_over(states.get(one.task), time.time() - request.age.total_seconds())
    if reason is None and one.kept:
        reason = "kept (keep_failed)"
    if reason is None and one.attempt in alive and not request.stop_running:
        reason = _RUNS
    return reason


def _why_it_is_not_over(state: TaskState | None, before: float) -> str | None:
    """Why a task is not known to be over since a point in time, as seconds since the epoch."""
    if state is None:
        return _UNKNOWN
    if state.ended is None:
        return "of a task that has not ended"
    return "of a task that has just ended (--older-than)" if state.ended.timestamp() > before else None


def _try_to_remove(one: Left, alive: set[str], request: Request) -> bool | None:
    """Remove something; ``False`` if that cannot be done, ``None`` if its task was cleared meanwhile, so that it stays."""
    states = ask_airflow([one.task] if one.task is not None else [])
    if (reason := _why_it_stays(one, states, alive, request)) is not None:
        _say(one, f"stays: {reason}")
        return None
    try:
        one.remove()
    except Exception as error:  # noqa: BLE001 - one thing that cannot be removed must not keep the others
        click.echo(f"{one.what}: not removed: {error}", err=True)
        return False
    _say(one, "removed")
    return True


def _say_what_stays(found: Sequence[Left], reasons: Sequence[str | None]) -> None:
    """What somebody may want to do something about is shown; of all else, how much it is."""
    quiet: dict[str, list[Left]] = {}
    for one, reason in zip(found, reasons, strict=True):
        if reason == _RUNS:
            _say(one, f"stays: {reason}; --stop-running ends it")
        elif reason == _UNKNOWN:
            _say(one, f"stays: {reason}")
        elif reason is not None:
            quiet.setdefault(reason, []).append(one)
    for reason, ones in sorted(quiet.items()):
        whose = list(dict.fromkeys(_whose(one) for one in ones))
        more = f" and {len(whose) - _NAMED} more" if len(whose) > _NAMED else ""
        click.echo(looks.printable(f"left alone, {reason}: {', '.join(whose[:_NAMED])}{more}"))


def _whose(one: Left) -> str:
    return str(one.task) if one.task is not None else "airflow-mlops shell"


def _say(one: Left, what: str) -> None:
    click.echo(looks.printable(f"{one.what} ({_whose(one)}): {what}"))
