# SPDX-License-Identifier: Apache-2.0
"""
One DAG, run in an Airflow that lives for the run: Airflow's own scheduler loop in this process, a home and a SQLite
database a run.

Nothing here prints. :func:`run` reports by ``on_event`` and returns a :class:`RunResult`; the noise of Airflow goes
to ``airflow.log`` in the run's folder, and ``terminal()`` of the module ``terminal`` is where a user interface writes
meanwhile. (``home`` and ``terminal`` are modules of this package, so the functions of these names are imported from
there.)

Tasks are forked from the calling process, so ``run`` refuses to start while a second thread exists, and a user
interface must not start one (``rich.live.Live(auto_refresh=False)``): refresh it from ``on_event`` and ``on_tick``,
which comes at least four times a second while tasks run.

Linux is what this is tested on. macOS has ``fork`` but not Linux's way of ending children with their parent: after a
``kill -9`` of the command, running tasks finish there. Windows has no ``fork``: :class:`EmbeddedUnavailable` says so.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.cli.embedded.home import instance, store_url
    from airflow_mlops.cli.embedded.model import (
        DagRefused,
        EmbeddedError,
        EmbeddedUnavailable,
        Question,
        Reply,
        RunRequest,
        RunResult,
        TaskEvent,
        TaskResult,
    )
    from airflow_mlops.cli.embedded.runner import run
    from airflow_mlops.cli.embedded.runs import RunRecord, list_runs, new_run_directory, remove_run, task_logs
    from airflow_mlops.cli.embedded.task_log import LogLine, is_own, read_log, tail_of_failure

_HOMES = {
    "home": ("instance", "store_url"),
    "model": (
        "DagRefused",
        "EmbeddedError",
        "EmbeddedUnavailable",
        "Question",
        "Reply",
        "RunRequest",
        "RunResult",
        "TaskEvent",
        "TaskResult",
    ),
    "runner": ("run",),
    "runs": ("RunRecord", "list_runs", "new_run_directory", "remove_run", "task_logs"),
    "task_log": ("LogLine", "is_own", "read_log", "tail_of_failure"),
}
_LAZY = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DagRefused",
    "EmbeddedError",
    "EmbeddedUnavailable",
    "LogLine",
    "Question",
    "Reply",
    "RunRecord",
    "RunRequest",
    "RunResult",
    "TaskEvent",
    "TaskResult",
    "instance",
    "is_own",
    "list_runs",
    "new_run_directory",
    "read_log",
    "remove_run",
    "run",
    "store_url",
    "tail_of_failure",
    "task_logs",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: listing runs must not cost what running one does."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
