# SPDX-License-Identifier: Apache-2.0
"""How a container and its volume are removed. Without Airflow: a process that outlives the task needs it, too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

if TYPE_CHECKING:
    from docker import APIClient

_CONFLICT = 409


def remove(cli: APIClient, container: str, attempt_id: str) -> None:
    """
    Remove a container and the volume of its attempt. One that is gone already is what was wanted.

    :raises docker.errors.APIError: if the daemon does not do it
    """
    remove_container(cli, container)
    with suppress(NotFound):
        cli.remove_volume(f"mlops-{attempt_id}", force=True)


def remove_unheard(cli: APIClient, attempt_id: str, labels: Mapping[str, str]) -> None:
    """
    Remove a container that the daemon was asked to create, and whose id never arrived: it may be there all the same.

    :param labels: what it was to be labelled with; a container of that name with others is not ours
    """
    try:
        details = cli.inspect_container(f"mlops-{attempt_id}")
    except NotFound:
        return
    found = details["Config"]["Labels"]
    if all(found.get(name) == value for name, value in labels.items()):
        remove_container(cli, details["Id"])


def remove_container(cli: APIClient, container: str) -> None:
    """
    Remove a container alone. One that is gone already is what was wanted.

    :raises docker.errors.APIError: if the daemon does not do it
    """
    try:
        cli.remove_container(container, force=True, v=True)
    except NotFound:
        pass
    except APIError as error:
        if error.status_code != _CONFLICT:  # somebody else is removing it
            raise
