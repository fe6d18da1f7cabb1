# SPDX-License-Identifier: Apache-2.0
"""How a container and its volume are removed. Without Airflow: a process that outlives the task needs it, too."""

from __future__ import annotations

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
