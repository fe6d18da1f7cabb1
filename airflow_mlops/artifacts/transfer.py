# SPDX-License-Identifier: Apache-2.0
"""
Tar streams to and from a daemon that does not see our files.

What comes out of a container is hostile: ``tarfile``'s extraction filters have been got round more than once, so
nothing is "extracted". Members are read one by one; regular files and folders with plain relative names are written,
everything else is refused; there are caps on all of it; and files are made with ``O_EXCL | O_NOFOLLOW`` below folders
that were made here, so that no link can be followed.
"""

from __future__ import annotations

import errno
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.artifacts.errors import ArchiveRefused
from airflow_mlops.artifacts.scan import MAX_DEPTH, MAX_FILES, MAX_NAME, scan
from airflow_mlops.artifacts.tar_reader import Member, TarReader, shown

BLOCK = 1 << 20
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Caps:
    """
    What an archive may hold.

    :param files: files and folders
    :param size: bytes of all files together
    """

    files: int = MAX_FILES
    size: int = 1 << 50


@dataclass(frozen=True, slots=True)
class ArchiveItem:
    """
    A file or folder to be put into an archive.

    :param name: path in the archive
    :param path: file or folder to take; bytes for a file with that content; ``None`` for an empty folder
    :param mode: permissions; folders, and files that their owner may run, get the execute bits beside. A file that is
        given as bytes gets them as they are
    """

    name: str
    path: Path | bytes | None
    mode: int
    uid: int
    gid: int


def archive(items: Iterable[ArchiveItem]) -> Iterator[bytes]:
    """
    A tar stream of files and folders, made as it is read: memory stays at about one block. Times are zero and owners
    have no names, so that the same content makes the same stream.

    :raises ContentRefused: if a folder holds links or devices
    :raises ArchiveRefused: if a file becomes shorter while it is read
    """
    for item in items:
        if isinstance(item.path, bytes):
            yield _header(item.name, item, tarfile.REGTYPE, len(item.path), item.mode)
            yield item.path + b"\0" * (-len(item.path) % tarfile.BLOCKSIZE)
            continue
        if item.path is None or item.path.is_dir():
            yield _header(item.name, item, tarfile.DIRTYPE, 0, _folder_mode(item.mode))
        if item.path is None:
            continue
        folders: set[str] = set()
        for found in scan(item.path):
            name = f"{item.name}/{found.name}" if found.name else item.name
            yield from _parents(found.name, item, folders)
            mode = item.mode & ~0o111
            if os.stat(found.path).st_mode & 0o100:
                mode = _folder_mode(mode)
            yield _header(name, item, tarfile.REGTYPE, found.size, mode)
            yield from _content(found.path, found.size)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _folder_mode(mode: int) -> int:
    """Whoever may read a folder may enter it; whoever may read a program may run it."""
    return mode | (mode & 0o444) >> 2


def _parents(relative: str, item: ArchiveItem, made: set[str]) -> Iterator[bytes]:
    parts = relative.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder not in made:
            made.add(folder)
            yield _header(f"{item.name}/{folder}", item, tarfile.DIRTYPE, 0, _folder_mode(item.mode))


def _header(name: str, item: ArchiveItem, kind: bytes, size: int, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, size, mode
    info.uid, info.gid = item.uid, item.gid
    return info.tobuf(tarfile.PAX_FORMAT)


def _content(path: str, size: int) -> Iterator[bytes]:
    remaining = size
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        while remaining:
            block = file.read(min(BLOCK, remaining))
            if not block:
                raise ArchiveRefused(f"{path} became shorter while it was read")
            remaining -= len(block)
            yield block
    yield b"\0" * (-size % tarfile.BLOCKSIZE)


def extract(stream: Iterable[bytes], target: Path, *, strip: int = 0, caps: Caps | None = None) -> None:
    """
    Write the files of a tar stream below a folder. Files get mode 0644, or 0755 where the archive says that they are
    programs.

    :param target: folder; made if it is not there
    :param strip: leading components of each name that are dropped
    :raises ArchiveRefused: if it holds links, devices, names that lead out, or more than the caps allow
    :raises OSError: if the folder cannot be written
    """
    caps = caps or Caps()
    target.mkdir(parents=True, exist_ok=True)
    size = 0
    reader = TarReader(stream)
    root = os.open(target, _FOLDER_FLAGS)
    try:
        for count, member in enumerate(reader, start=1):
            if count > caps.files:
                raise ArchiveRefused(f"the archive holds more than {caps.files} files and folders")
            size += member.size
            if size > caps.size:
                raise ArchiveRefused(f"the archive holds more than {caps.size} bytes")
            parts = _checked(member, strip)
            if parts and member.is_folder:
                os.close(_folder(root, parts))
            elif parts:
                _write(root, parts, member, reader)
    finally:
        os.close(root)


def _checked(member: Member, strip: int) -> list[str]:
    """The components of a member's name after stripping."""
    name = member.name.removeprefix("./").rstrip("/")
    parts = name.split("/") if name not in ("", ".") else []
    if any(part in ("", ".", "..") for part in parts) or _UNSAFE.search(name):
        raise ArchiveRefused(f"the archive holds the unsafe name '{shown(member.name)}'")
    if len(parts) > MAX_DEPTH or len(name.encode()) > MAX_NAME:
        raise ArchiveRefused(f"the archive holds a name that is too long or too deep: '{shown(member.name)}'")
    if not member.is_folder and len(parts) <= strip:
        raise ArchiveRefused(f"the archive holds the file '{shown(member.name)}' where a folder was expected")
    return parts[strip:]


def _write(root: int, parts: list[str], member: Member, reader: TarReader) -> None:
    folder = _folder(root, parts[:-1])
    try:
        descriptor = os.open(parts[-1], _NEW_FILE_FLAGS, 0o755 if member.executable else 0o644, dir_fd=folder)
    except FileExistsError:
        raise ArchiveRefused(f"the archive holds '{shown(member.name)}', which is there already") from None
    finally:
        os.close(folder)
    with open(descriptor, "wb") as file:
        for piece in reader.content():
            file.write(piece)


def _folder(root: int, parts: list[str]) -> int:
    """A descriptor of a folder below the root, made where needed, without following a link on the way."""
    descriptor = os.dup(root)
    for part in parts:
        try:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=descriptor)
            deeper = os.open(part, _FOLDER_FLAGS, dir_fd=descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise ArchiveRefused(f"'{shown('/'.join(parts))}' in the archive goes through what is no folder") from None
        finally:
            os.close(descriptor)
        descriptor = deeper
    return descriptor
