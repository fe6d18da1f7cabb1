# SPDX-License-Identifier: Apache-2.0
"""Where the runs of this user keep their artifacts, and what else a run is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store

PREFIX = "AIRFLOW__MLOPS__"
STORE = f"{PREFIX}STORE"
INSTANCE = f"{PREFIX}INSTANCE"
WORK_DIR = f"{PREFIX}WORK_DIR"


_OPEN = {
    "ALLOWED_VOLUMES": "/",
    "ALLOWED_OPERATORS": "*",
    "ALLOWED_NETWORKS": "*",
    "ALLOWED_IPC_MODES": "*",
    "ALLOWED_CAPABILITIES": "*",
    "ALLOWED_USERS": "*",
    "ALLOWED_NAMESPACES": "*",
    "ALLOWED_SERVICE_ACCOUNTS": "*",
    "ALLOWED_SECRETS": "*",
    "CALLBACKS": "false",
}
"""What a deployment opens one by one is open in a run of one's own; and nobody is told of it."""


def run_settings(store: str | None) -> dict[str, str]:
    """
    The ``[mlops]`` settings of a run, as environment variables.

    What the environment sets already is kept, but for the store, if one is named.

    :param store: URL or folder of the store
    """
    from airflow_mlops.cli.embedded.home import store_url

    settings = {
        STORE: os.environ.get(STORE) or store_url(),
        INSTANCE: own_instance(),
        # The user runs their own pipeline, as themselves: nobody is to be protected from them.
        **{f"{PREFIX}{name}": os.environ.get(f"{PREFIX}{name}") or everything for name, everything in _OPEN.items()},
        # Only -e chooses an environment, so that a command means the same in every shell.
        f"{PREFIX}ENVIRONMENT": "",
        # A run is over when its command is: nobody would come back for what it left running.
        f"{PREFIX}ON_DRAIN": "stop",
    }
    if store is not None:
        if not store or ("://" not in store and Path(store).exists() and not Path(store).is_dir()):
            raise CommandError(
                f"--store {store!r}: is no folder; expected a folder, or a URL such as s3://bucket/store"
            )
        settings[STORE] = store if "://" in store else Path(store).absolute().as_uri()
    return settings


def work_folder(run: Path) -> Path:
    """
    Where the attempts of a run have their scratch folders: below the run's own folder, or below the one that the environment names.

    :param run: the run's folder
    """
    chosen = os.environ.get(WORK_DIR)
    return Path(chosen).absolute() / run.name if chosen else run / "work"


def own_instance() -> str:
    """The id under which a store keeps what this user's runs make."""
    from airflow_mlops.cli.embedded.home import instance

    return os.environ.get(INSTANCE) or instance()


def open_store(url: str) -> Store:
    """
    Open the store of a run, with the storage options that runs are given.

    :raises CommandError: if the options are not a JSON object, or the credentials are in a connection
    """
    from airflow_mlops.artifacts import Store

    if (conn_id := os.environ.get(f"{PREFIX}STORE_CONN_ID")) and not url.startswith("file:"):
        raise CommandError(
            f"{PREFIX}STORE_CONN_ID is '{conn_id}', and connections of stores are for an Airflow deployment; for a run of your own, unset it, and "
            f"give credentials as {PREFIX}STORAGE_OPTIONS or in variables that the store's own tools read"
        )
    name = f"{PREFIX}STORAGE_OPTIONS"
    try:
        options = json.loads(os.environ.get(name) or "{}")
    except ValueError as error:
        raise CommandError(
            f'{name} is not JSON: {error}; expected an object such as {{"endpoint_url": "http://…"}}'
        ) from None
    if not isinstance(options, dict):
        raise CommandError(f'{name} is no object; expected one such as {{"endpoint_url": "http://…"}}')
    return Store.open(url, storage_options=options)
