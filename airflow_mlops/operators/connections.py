# SPDX-License-Identifier: Apache-2.0
"""Airflow's connections, for tasks and for commands and notebooks on a host of the deployment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_mlops.operators.failures import BadStep

_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"


def find_connection(conn_id: str, what: str) -> Any:
    """
    Look a connection up; Airflow masks its password in the log from then on.

    :param what: what it is needed for, as the message begins
    :raises BadStep: if there is none
    """
    try:
        with database_reachable():
            return BaseHook.get_connection(conn_id)
    except Exception as error:  # the SDK and the metadata database raise different classes for "no such connection"
        raise BadStep(
            f"{what}: Airflow has no connection '{conn_id}'; "
            f"create it with `airflow connections add`, or for a local run as AIRFLOW_CONN_{conn_id.upper()}"
        ) from error


def do_without_database() -> None:
    """From now on this process looks for connections and variables in its environment alone: a run of one's own has no database any more."""
    os.environ.setdefault(_CONTEXT, "client")


@contextlib.contextmanager
def database_reachable() -> Iterator[None]:
    """
    Outside of tasks, which ask their supervisor, Airflow's SDK looks into the metadata database only where a process says that it is one
    of the deployment's own.
    """
    if _CONTEXT in os.environ:
        yield
        return
    os.environ[_CONTEXT] = "server"
    try:
        yield
    finally:
        os.environ.pop(_CONTEXT, None)
