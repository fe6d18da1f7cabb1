# SPDX-License-Identifier: Apache-2.0
"""
What attempts of a run leave behind when nobody was left to clean up: killed by a second Ctrl-C, by the system, by a power cut.

Every attempt has a scratch folder of its own below the run's, named by its id. A folder that is still there when the run is over tells
what to look for: programs, containers, volumes, pods and secrets of that attempt, and of no other. A folder whose pod cannot be removed stays: it
alone says where the pod is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.docker_host import connect, docker_url

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store

_WORKSPACE = re.compile(r"mlops-([0-9a-f]{12})")
_DOCKER_PATIENCE = 30
"""Seconds for one answer of the daemon, which stops a container meanwhile."""


def attempts_in(work: Path) -> list[str]:
    """Ids of the attempts that have a scratch folder."""
    if not work.is_dir():
        return []
    return sorted(match[1] for entry in work.iterdir() if (match := _WORKSPACE.fullmatch(entry.name)))


def sweep(work: Path, instance: str, kept_in: Store | None = None) -> list[str]:
    """
    Remove what is left of the attempts of a run that is over.

    :param work: the run's scratch folder
    :param instance: id that the containers were labelled with
    :param kept_in: the run's store, if what it says is kept as evidence is to stay
    :return: what was removed, in words
    """
    ids = attempts_in(work)
    if ids and kept_in is not None:
        from airflow_mlops.cli.abandoned import is_evidence

        ids = [attempt for attempt in ids if not is_evidence(work / f"mlops-{attempt}", kept_in)]
    if not ids:
        with suppress(OSError):
            work.rmdir()
        return []
    from airflow_mlops.cli.abandoned_pods import remove_pod_of
    from airflow_mlops.operators.programs import kill_programs
    from airflow_mlops.operators.scratch import remove_scratch

    removed = [
        f"program with process id {number}" for attempt in ids for number in kill_programs(work / f"mlops-{attempt}")
    ]
    removed += _remove_containers(ids, instance)
    for attempt in ids:
        folder = work / f"mlops-{attempt}"
        try:
            removed += [pod] if (pod := remove_pod_of(folder, instance)) else []
        except Exception as error:  # noqa: BLE001 - how a run ended must not depend on what is left of it
            removed.append(f"not pod {folder.name}, so {folder} stays: {error}")
        else:
            remove_scratch(folder)
    with suppress(OSError):
        work.rmdir()
    return removed


def _remove_containers(ids: Iterable[str], instance: str) -> list[str]:
    """Remove containers and volumes of attempts, where a Docker daemon answers."""
    url = docker_url()
    if url is None:
        return []
    from docker.errors import DockerException

    from airflow_mlops.operators.identity import LABEL, is_ours

    removed = []
    try:
        client = connect(url, _DOCKER_PATIENCE)
        for attempt in ids:
            labels = {"label": [f"{LABEL}.attempt={attempt}", f"{LABEL}.instance={instance}"]}
            for container in filter(is_ours, client.containers(all=True, filters=labels)):
                client.remove_container(container["Id"], force=True, v=True)
                removed.append(f"container mlops-{attempt}")
            for volume in client.volumes(filters=labels)["Volumes"] or ():
                client.remove_volume(volume["Name"], force=True)
                removed.append(f"volume {volume['Name']}")
    except (DockerException, OSError) as error:
        removed.append(f"nothing on Docker: {error}")
    return removed
