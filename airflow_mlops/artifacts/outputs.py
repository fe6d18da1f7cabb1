# SPDX-License-Identifier: Apache-2.0
"""
Collect what a program wrote: every declared output must be there and be what was declared. All that is wrong is told at
once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.digests import Digested, digest_path
from airflow_mlops.artifacts.errors import (
    ArtifactError,
    ContentRefused,
    OutputInvalid,
    OutputMissing,
    StoreFailed,
    listed,
)
from airflow_mlops.artifacts.metrics import MAX_METRICS, parse_metrics
from airflow_mlops.artifacts.parameters import MAX_PARAMETER, parse_parameter
from airflow_mlops.artifacts.scan import readable

if TYPE_CHECKING:
    from airflow_mlops.spec.parts import Output


@dataclass(slots=True)
class Collected:
    """
    The outputs of an attempt.

    :param artifacts: digests of the artifact outputs by name
    :param parameters: values of the parameter outputs by name
    :param metrics: scalars of the metrics outputs: by output, by key
    """

    artifacts: dict[str, Digested] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def hash_seconds(self) -> float:
        """Seconds spent on digests."""
        return sum(item.seconds for item in self.artifacts.values())


EMPTY_FOLDER = "is an empty folder; expected at least one file in it"


class NotWritten(Exception):
    """An output was not written; kept apart from outputs that are wrong."""


def output_path(folder: Path, name: str, output: Output) -> Path:
    """Where an output lies: ``<folder>/<name>``, or ``<folder>/<name>/<file>``."""
    return folder / name / output.file if output.file else folder / name


def collect(folder: Path, declared: Mapping[str, Output], *, sync: bool = True) -> Collected:
    """
    Read and check all declared outputs, but those at a URI of their own.

    :param folder: the folder the program wrote its outputs to
    :param sync: wait until the artifacts are on the disk, so that no commit outlives its files
    :raises OutputMissing: if some were not written; it lists what was written beside them
    :raises OutputInvalid: if some are not what was declared
    """
    return gathered(declared, lambda name, output, found: _collect_one(folder, name, output, found, sync))


def gathered(declared: Mapping[str, Output], collect_one: Callable[[str, Output, Collected], None]) -> Collected:
    """
    Collect one declared output after the other, but those at a URI of their own, and tell all that is wrong at once.

    :param collect_one: adds an output to what was collected; raises :class:`NotWritten` for one that is not there
    :raises OutputMissing: if some were not written
    :raises OutputInvalid: if some are not what was declared
    :raises StoreFailed: if the store failed, which says nothing of the outputs
    """
    collected = Collected()
    problems: list[str] = []
    missing_only = True
    for name, output in declared.items():
        if output.uri is not None:
            continue
        try:
            collect_one(name, output, collected)
        except NotWritten as error:
            problems.append(str(error))
        except StoreFailed:
            raise
        except (ArtifactError, OSError, ValueError) as error:
            missing_only = False
            problems.append(f"output '{name}': {error}")
    if problems:
        raise (OutputMissing if missing_only else OutputInvalid)(problems)
    return collected


def _collect_one(folder: Path, name: str, output: Output, collected: Collected, sync: bool) -> None:
    path = output_path(folder, name, output)
    status = _status(folder, path)
    if status is None:
        raise NotWritten(not_written(name, output, _written(folder, path)))
    if output.is_parameter:
        collected.parameters[name] = parse_parameter(output.type, _small_file(path, status, MAX_PARAMETER))
        return
    if output.file and stat.S_ISDIR(status.st_mode):
        raise ValueError(not_a_file(name, output))
    scalars = None
    if output.type == "metrics":
        scalars = parse_metrics(_small_file(path, status, MAX_METRICS), output.keys or ())
    digested = digest_path(path, sync=sync, own=True)
    if not digested.files:
        raise ValueError(EMPTY_FOLDER)
    if scalars is not None:
        collected.metrics[name] = scalars
    collected.artifacts[name] = digested


def not_written(name: str, output: Output, written: str) -> str:
    """
    What is wrong with an output that is not there.

    :param written: what lies where it should
    """
    return (
        f"output '{name}' was not written: expected {'a file or folder' if output.is_artifact else 'a file'} at "
        f"outputs/{name}{f'/{output.file}' if output.file else ''} (its path is in MLOPS_OUTPUT_{name.upper()}); the program wrote {written}"
    )


def _status(folder: Path, path: Path) -> os.stat_result | None:
    """
    The status of a path, no part of which below the outputs (nor the outputs themselves) may be a link; ``None`` if it
    is not there.
    """
    current, status = folder, None
    for part in ("", *path.relative_to(folder).parts):
        current = current / part
        try:
            status = os.lstat(current)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(status.st_mode):
            raise ContentRefused(f"{current} is a symbolic link; write the file or folder itself")
    return status


def _small_file(path: Path, status: os.stat_result, limit: int) -> bytes:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no regular file; expected one")
    if status.st_size > limit:
        raise ValueError(
            f"is {status.st_size} bytes; at most {limit} are allowed: hand bigger things on as an artifact"
        )
    with readable(str(path)):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(limit + 1)


def _written(folder: Path, path: Path) -> str:
    """What lies beside the place where an output should be."""
    # A folder that was made for the output's file says more than the list of all outputs, if there is something in it.
    return _names(path.parent, folder) or _names(folder, folder) or "nothing"


def _names(parent: Path, folder: Path) -> str:
    if parent.is_symlink():
        return ""
    try:
        with os.scandir(parent) as entries:
            names = sorted(
                str((parent / entry.name).relative_to(folder)) + ("/" if entry.is_dir(follow_symlinks=False) else "")
                for entry in entries
            )
    except OSError:
        return ""
    return listed_names(names)


def not_a_file(name: str, output: Output) -> str:
    """What is wrong with a folder in place of an output's file."""
    return f"outputs/{name}/{output.file} is a folder; expected a file, since the output says file: {output.file}"


def listed_names(names: list[str]) -> str:
    """Names of files as a message shows them."""
    return listed([name if name.isprintable() else ascii(name) for name in names], "file")
