# SPDX-License-Identifier: Apache-2.0
"""
What the steps of a deployment may have left: containers and volumes of a daemon, scratch folders of this host, attempts in the store. What is
in a cluster is in :mod:`~airflow_mlops.cli.abandoned_pods`.

Found by the instance id that each carries; whether it may go is not for this module to say.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airflow_mlops.artifacts import (
    DocumentInvalid,
    Place,
    ReferenceRefused,
    all_generations,
    decode_component,
    encode_component,
    find_committed,
    iteration_of,
)
from airflow_mlops.artifacts.attempts import attempts_of, is_kept
from airflow_mlops.cli.docker_host import connect, docker_url
from airflow_mlops.cli.leftovers import attempts_in
from airflow_mlops.cli.task_states import Task
from airflow_mlops.operators.attempt import OWNER
from airflow_mlops.operators.identity import LABEL, MANAGED, SHELL, VISITOR, is_ours
from airflow_mlops.operators.programs import end_programs, may_be_alive, programs
from airflow_mlops.operators.scratch import remove_scratch

if TYPE_CHECKING:
    from docker import APIClient

    from airflow_mlops.artifacts import Store

_INDEX = re.compile("[0-9]{1,9}")
_OWNER_LIMIT = 64 * 1024
_SECONDS = 30
"""For one answer of the Docker daemon."""

GRACE = 10
"""Seconds for a program whose step's grace is not known here."""


@dataclass(frozen=True, slots=True)
class Left:
    """
    One thing that may be left over.

    :param what: what it is, in words
    :param attempt: id of the attempt that it belongs to
    :param task: the task instance; ``None`` for what somebody who looked around left
    :param alive: whether a program runs in it; of what somebody looks around in, whether that one is still there
    :param kept: whether it is kept as evidence
    :param remove: removes it, and ends the program that runs in it
    """

    what: str
    attempt: str
    task: Task | None
    alive: bool
    kept: bool
    remove: Callable[[], object]


def left(
    what: str, labels: Mapping[str, str], store: Store, instance: str, remove: Callable[[], object], *, runs: bool
) -> Left:
    """
    One thing, as its labels tell whose it is.

    :param runs: whether a program runs in it
    """
    alive = _is_visited(labels, runs)
    return Left(what, attempt_of(labels), task_of(labels), alive, _is_kept_for(store, instance, labels), remove)


def visits(instance: str) -> list[Left]:
    """What people left on this machine who looked around in local runs, and whose processes were killed."""
    from docker.errors import DockerException

    from airflow_mlops.cli.session import STORE, WORK_DIR, open_store, run_settings

    store = open_store(run_settings(None)[STORE])
    found: list[Left] = []
    if (url := docker_url()) is not None:
        with suppress(DockerException):
            found += in_docker(connect(url, _SECONDS), store, instance)
    for parent in {Path(tempfile.gettempdir()), Path(os.environ.get(WORK_DIR) or tempfile.gettempdir())}:
        for one in in_scratch(parent, store, instance):
            found.append(replace(one, remove=partial(_remove_visit, parent / f"mlops-{one.attempt}", instance)))
    return [one for one in found if one.task is None and not one.alive]


def is_evidence(folder: Path, store: Store) -> bool:
    """Whether a scratch folder is that of an attempt which is kept to be looked at."""
    labels = _owner(folder)
    return _is_kept_for(store, labels.get(f"{LABEL}.instance", ""), labels)


def in_docker(cli: APIClient, store: Store, instance: str) -> Iterator[Left]:
    """
    Containers and volumes of a daemon.

    :raises docker.errors.DockerException: if it does not answer
    """
    mine = {"label": [f"{MANAGED}=true", f"{LABEL}.instance={instance}"]}
    for container in filter(is_ours, cli.containers(all=True, filters=mine)):
        labels, number = container["Labels"], container["Id"]
        what, runs = f"container mlops-{attempt_of(labels)}", container["State"] not in ("exited", "dead", "created")
        yield left(what, labels, store, instance, partial(_end_container, cli, number), runs=runs)
    for volume in cli.volumes(filters=mine)["Volumes"] or ():
        labels, name = volume["Labels"], volume["Name"]
        remove = partial(cli.remove_volume, name, force=True)
        yield left(f"volume {name}", labels, store, instance, remove, runs=False)


def in_scratch(work_dir: Path | None, store: Store, instance: str) -> Iterator[Left]:
    """Scratch folders of this host, with the programs and secrets of their attempts."""
    parent = work_dir or Path(tempfile.gettempdir())
    running = programs()
    for attempt in attempts_in(parent):
        folder = parent / f"mlops-{attempt}"
        labels = _owner(folder)
        if labels.get(f"{LABEL}.instance") != instance:
            continue
        runs = any(seal.startswith(f"{folder}{os.sep}") for seal in running.values())
        found = left(f"folder {folder}", labels, store, instance, partial(_remove_folder, folder), runs=runs)
        yield replace(found, attempt=attempt)


def in_store(store: Store, instance: str, dags: tuple[str, ...]) -> Iterator[Left]:
    """
    Attempts that were not committed.

    :param dags: DAG ids; all if there are none
    """
    for dag, pipeline in _names(store, encode_component(instance)):
        if dags and dag not in dags:
            continue
        for run, run_key in _names(store, pipeline):
            for task, step_key in _names(store, run_key):
                for index, _ in _names(store, step_key):
                    if index == "-" or _INDEX.fullmatch(index):
                        yield from _uncommitted(store, Place(instance, dag, run, task, index))


def _uncommitted(store: Store, step: Place) -> Iterator[Left]:
    for place in all_generations(store, step):
        attempts = attempts_of(store, place)
        if not attempts:
            continue
        try:
            committed = find_committed(store, place)
        except (DocumentInvalid, ReferenceRefused) as error:
            click.echo(f"{store.uri(place.manifest_key)}: {error}; its folder is left alone", err=True)
            continue
        for attempt in attempts:
            if committed is None or committed[0].attempt != attempt:
                key = place.attempt_key(attempt)
                yield Left(
                    store.uri(key),
                    attempt,
                    Task(place.pipeline, place.run, place.step, -1 if place.iteration == "-" else int(place.iteration)),
                    False,
                    is_kept(store, place, attempt),
                    partial(store.delete_tree, key),
                )


def _end_container(cli: APIClient, container: str) -> None:
    """Remove a container; one that runs gets the grace that its step was given."""
    from airflow_mlops.operators.docker_removal import remove_container

    details = cli.inspect_container(container)
    if details["State"]["Running"]:
        grace = details["Config"].get("StopTimeout")
        cli.stop(container, timeout=GRACE if grace is None else grace)
    remove_container(cli, container)


def _is_visited(labels: Mapping[str, str], runs: bool) -> bool:
    """Whether something is alive: its program runs, or somebody is there who looks around."""
    return may_be_alive(labels[VISITOR]) if labels.get(VISITOR) else runs


def _remove_folder(folder: Path) -> None:
    end_programs(folder, GRACE)
    remove_scratch(folder)
    if folder.exists():
        raise OSError(f"something in {folder} cannot be removed")


def _remove_visit(folder: Path, instance: str) -> None:
    """Remove the folder of who looked around in a local run; nothing else says where the pod is, if it was one."""
    from airflow_mlops.cli.abandoned_pods import remove_pod_of

    remove_pod_of(folder, instance)
    _remove_folder(folder)


def _names(store: Store, folder: str) -> Iterator[tuple[str, str]]:
    """Names of the folders in a folder, and their keys. One that was cut tells nobody its name, and is nobody's to clean."""
    try:
        keys = store.list(folder)
    except ReferenceRefused as error:
        click.echo(f"{error}; it is left alone", err=True)
        return
    for key in keys:
        component = key.rpartition("/")[2]
        name = "-" if component == "-" else decode_component(component)
        if name is not None:
            yield name, key


def attempt_of(labels: Mapping[str, str]) -> str:
    """The attempt, or the visit, that something belongs to."""
    return labels.get(f"{LABEL}.attempt") or labels.get(SHELL) or "?"


def task_of(labels: Mapping[str, str]) -> Task | None:
    """The task instance that something belongs to; ``None`` for what somebody who looked around left."""
    if labels.get(SHELL):
        return None
    dag, run, task = (labels.get(f"{LABEL}.{name}", "") for name in ("dag", "run", "task"))
    index = labels.get(f"{LABEL}.map-index", "")
    return Task(dag, run, task, int(index) if re.fullmatch(r"-?[0-9]{1,9}", index) else -1)


def _is_kept_for(store: Store, instance: str, labels: Mapping[str, str]) -> bool:
    """Whether something belongs to an attempt that is kept as evidence."""
    task, numbers = task_of(labels), [labels.get(f"{LABEL}.{name}", "") for name in ("generation", "incarnation")]
    if task is None or not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
        return False
    place = Place(instance, task.dag, task.run, task.task, iteration_of(task.map_index), *map(int, numbers))
    return is_kept(store, place, attempt_of(labels))


def _owner(folder: Path) -> dict[str, str]:
    """Labels of the attempt that made a scratch folder. Anybody may make a folder of that name where all have theirs."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return {}
        descriptor = os.open(folder / OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            labels: Any = json.loads(file.read(_OWNER_LIMIT))
    except (OSError, ValueError):
        return {}
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        return {}
    return labels
