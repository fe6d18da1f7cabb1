# SPDX-License-Identifier: Apache-2.0
"""
The folders of runs: made, marked as alive, listed and removed.

A run holds a lock on a file in its folder, and so do the processes it forks. The kernel drops the lock with the last
of them, however they end, so a live run and the remains of a killed one are told apart without a process id that may
have a new owner.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.embedded.home import home, put
from airflow_mlops.cli.embedded.model import EmbeddedError, EmbeddedUnavailable, TaskResult

if TYPE_CHECKING:
    from pathlib import Path

_RECORD = "run.json"
_LOCK = "run.lock"
_UNFINISHED = ("preparing", "running")
_LOG = re.compile(r"task_id=(?P<task>[^/]+)/(map_index=(?P<index>\d+)/)?attempt=(?P<attempt>\d+)\.log")

_held: dict[Path, int] = {}


@dataclass(frozen=True)
class RunRecord:
    """
    What a run's folder says about it.

    :param path: the folder
    :param name: what the run was called by its caller
    :param spec: the file it came from, as the caller gave it
    :param dag_id: its DAG, empty until it started
    :param run_id: its Airflow run id, empty until it started
    :param state: ``preparing``, ``running``, ``success``, ``failed``, ``interrupted``, ``timeout``, ``refused`` (the
        DAG was not taken), ``error`` (the embedded Airflow itself failed) or ``killed``
    :param started: when its folder was made
    :param ended: when it ended, unless it was killed or lives
    :param alive: whether a process of it still runs
    :param tasks: how its tasks ended; empty before the end
    """

    path: Path
    name: str
    spec: str
    dag_id: str
    run_id: str
    state: str
    started: datetime | None
    ended: datetime | None
    alive: bool
    tasks: tuple[TaskResult, ...] = ()


def new_run_directory(name: str, *, spec: str = "") -> Path:
    """
    Make a folder for a run, ``<home>/runs/<time>-<name>-<random>``, and mark it as alive until this process ends or
    :func:`release` is called.

    :param name: what the run is called, most often its pipeline
    :param spec: the file it comes from, for :func:`list_runs`
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:60] or "run"
    now = datetime.now(UTC)
    folder = home() / "runs" / f"{now:%Y%m%dT%H%M%S}-{readable}-{secrets.token_hex(3)}"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    hold(folder)
    update_record(folder, name=name, spec=spec, state="preparing", started=now.isoformat())
    return folder


def hold(run_dir: Path) -> None:
    """
    Mark a run as alive.

    :raises EmbeddedError: if another process runs it
    """
    if run_dir in _held:
        return
    handle = os.open(run_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    if not _lock(handle):
        os.close(handle)
        raise EmbeddedError(f"{run_dir} belongs to a run that is still alive; start another one in a folder of its own")
    _held[run_dir] = handle


def release(run_dir: Path) -> None:
    """Take the mark off again; forked processes that still run keep theirs."""
    handle = _held.pop(run_dir, None)
    if handle is not None:
        os.close(handle)


def update_record(run_dir: Path, **fields: Any) -> None:
    """Change what a run's folder says about it."""
    put(run_dir / _RECORD, json.dumps({**_read(run_dir), **fields, "version": 1}, indent=1, default=str) + "\n")


def list_runs() -> list[RunRecord]:
    """All runs of this home, the newest first."""
    folder = home() / "runs"
    folders = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    return [record(run_dir) for run_dir in folders if (run_dir / _RECORD).is_file()]


def record(run_dir: Path) -> RunRecord:
    """What one run's folder says; a folder with a broken record is one whose state is ``error``."""
    fields = _read(run_dir)
    alive = is_alive(run_dir)
    state = str(fields.get("state", "error"))
    return RunRecord(
        path=run_dir,
        name=str(fields.get("name", run_dir.name)),
        spec=str(fields.get("spec", "")),
        dag_id=str(fields.get("dag_id", "")),
        run_id=str(fields.get("run_id", "")),
        state="killed" if state in _UNFINISHED and not alive else state,
        started=_time(fields.get("started")),
        ended=_time(fields.get("ended")),
        alive=alive,
        tasks=tuple(_tasks(run_dir, fields.get("tasks"))),
    )


def is_alive(run_dir: Path) -> bool:
    """Whether a process of the run still exists."""
    if run_dir in _held:
        return True
    try:
        handle = os.open(run_dir / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def remove_run(run_dir: Path) -> bool:
    """
    Delete a run's folder; what the run put into a store stays.

    :return: False if the run is alive, and its folder was left
    """
    if is_alive(run_dir):
        return False
    shutil.rmtree(run_dir, ignore_errors=True)
    return True


def task_logs(run_dir: Path) -> list[tuple[str, int, int, Path]]:
    """All logs of a run as (task id, map index or -1, try, file), also of one that is under way or was killed."""
    found = []
    for file in (run_dir / "logs").glob("dag_id=*/run_id=*/task_id=*/**/attempt=*.log"):
        match = _LOG.search(file.as_posix())
        if match:
            found.append((match["task"], int(match["index"] or -1), int(match["attempt"]), file))
    return sorted(found)


def tasks_as_json(run_dir: Path, tasks: tuple[TaskResult, ...]) -> list[dict[str, Any]]:
    """The form that :func:`record` reads."""
    return [
        {
            "task_id": task.task_id,
            "map_index": task.map_index,
            "state": task.state,
            "try_number": task.try_number,
            "start": task.start and task.start.isoformat(),
            "end": task.end and task.end.isoformat(),
            "log": task.log_path and task.log_path.relative_to(run_dir).as_posix(),
            "returned": task.returned,
        }
        for task in tasks
    ]


def _tasks(run_dir: Path, value: Any) -> Iterator[TaskResult]:
    for item in value if isinstance(value, list) else []:
        if isinstance(item, Mapping):
            yield TaskResult(
                task_id=str(item.get("task_id")),
                map_index=int(item.get("map_index", -1)),
                state=str(item.get("state")),
                try_number=int(item.get("try_number", 0)),
                start=_time(item.get("start")),
                end=_time(item.get("end")),
                log_path=run_dir / str(item["log"]) if item.get("log") else None,
                returned=item.get("returned"),
            )


def _read(run_dir: Path) -> dict[str, Any]:
    try:
        fields = json.loads((run_dir / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError as error:
        raise EmbeddedUnavailable("an embedded Airflow needs Linux or macOS; on Windows use WSL 2") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
