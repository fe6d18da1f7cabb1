# SPDX-License-Identifier: Apache-2.0
"""
Look at what a program wrote, without trusting it: regular files only, under names that every store can keep.

Symbolic links are refused, those inside the folder, too: what one points to may be another thing by the time it is
read, object stores have none, and a copy that follows them is not what the program wrote.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.artifacts.errors import ContentRefused

MAX_FILES = 100_000
MAX_DEPTH = 64
MAX_NAME = 1024
"""Bytes of a path within the folder."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KINDS = (
    (stat.S_ISLNK, "a symbolic link", "write the file itself, or a copy of it"),
    (stat.S_ISFIFO, "a named pipe", "close and remove it before the step ends"),
    (stat.S_ISSOCK, "a socket", "close and remove it before the step ends"),
    (stat.S_ISBLK, "a block device", "write a regular file"),
    (stat.S_ISCHR, "a character device", "write a regular file"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """
    A regular file.

    :param name: path within the folder that was looked at; empty if that was the file itself
    :param path: where it lies
    :param size: bytes
    """

    name: str
    path: str
    size: int


def scan(path: Path, *, max_files: int = MAX_FILES, own: bool = False) -> list[Found]:
    """
    List the files of a folder (or the one file), in the order of the UTF-8 bytes of their names. Empty folders do not
    count.

    :param max_files: most files that a folder may hold
    :param own: refuse files with several names (hard links): whoever has another one could change what is kept here
    :raises FileNotFoundError: if there is nothing
    :raises ContentRefused: if there is a link, pipe, socket or device, a name that is not UTF-8 or holds control
        characters, or too much
    """
    top = os.lstat(path)
    if not stat.S_ISDIR(top.st_mode):
        _check_kind(os.fspath(path), top, own)
        return [Found("", os.fspath(path), top.st_size)]
    found: list[Found] = []
    folders: list[tuple[str, str, int]] = [(os.fspath(path), "", 0)]
    seen_folders = 1
    while folders:
        folder, prefix, depth = folders.pop()
        with readable(folder), os.scandir(folder) as entries:
            for entry in entries:
                name = check_name(prefix + entry.name, path)
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    seen_folders += 1
                    _check_count(depth < MAX_DEPTH, path, f"folders nested deeper than {MAX_DEPTH} levels")
                    _check_count(seen_folders <= max_files, path, f"more than {max_files} folders")
                    folders.append((entry.path, name + "/", depth + 1))
                    continue
                _check_kind(entry.path, status, own)
                found.append(Found(name, entry.path, status.st_size))
                _check_count(len(found) <= max_files, path, f"more than {max_files} files")
    return sorted(found, key=lambda item: item.name.encode("utf-8"))


@contextmanager
def readable(path: str) -> Iterator[None]:
    """
    Say whose a file is that may not be read: a program may run as another user than the worker.

    :raises ContentRefused: if so
    """
    try:
        yield
    except PermissionError as error:
        place = str(error.filename or path)
        status = os.lstat(place)
        raise ContentRefused(
            f"{place} belongs to uid {status.st_uid} and has mode {stat.S_IMODE(status.st_mode):04o}, so that the worker (uid {os.geteuid()}) "
            "may not read it; let the program run as the worker's user, which is the default, or make its outputs readable (umask 022)"
        ) from error


def check_name(name: str, folder: Path) -> str:
    """
    Check a path within a folder: UTF-8, no control characters, not too long.

    :raises ContentRefused: saying which and where
    """
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise ContentRefused(f"{folder} holds a file whose name is not UTF-8: {name!r}; give it another name") from None
    if size > MAX_NAME:
        raise ContentRefused(f"{folder} holds a path of {size} bytes: {name[:100]!r}…; at most {MAX_NAME} are allowed")
    if _CONTROL.search(name):
        raise ContentRefused(
            f"{folder} holds a file with control characters in its name: {name!r}; give it another name"
        )
    return name


def _check_count(holds: bool, folder: Path, what: str) -> None:
    if not holds:
        raise ContentRefused(f"{folder} holds {what}; pack them into fewer files, such as a tar archive or Parquet")


def _check_kind(path: str, status: os.stat_result, own: bool) -> None:
    for is_kind, what, remedy in _KINDS:
        if is_kind(status.st_mode):
            raise ContentRefused(f"{path} is {what}; {remedy}")
    if not stat.S_ISREG(status.st_mode):
        raise ContentRefused(f"{path} is no regular file; write one")
    if own and status.st_nlink > 1:
        raise ContentRefused(
            f"{path} has {status.st_nlink} names (hard links), and whoever has another one could change it; write a copy of it"
        )
