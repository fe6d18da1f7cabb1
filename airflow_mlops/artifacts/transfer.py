# SPDX-License-Identifier: Apache-2.0
"""
Tar streams to and from a daemon that does not see our files.

What comes out of a container is hostile: ``tarfile``'s extraction filters have been got round more than once, so nothing is "extracted".
Members are read one by one; regular files and folders with plain relative names are written, everything else is refused; there are caps on
all of it; and files are made with ``O_EXCL | O_NOFOLLOW`` below folders that were made here, so that no link can be followed.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.artifacts.errors import ArchiveRefused
from airflow_mlops.artifacts.scan import MAX_DEPTH, MAX_FILES, MAX_NAME, scan

BLOCK = 1 << 20
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


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
    :param path: file or folder to take; ``None`` for an empty folder
    :param mode: permissions; folders get their execute bits beside
    """

    name: str
    path: Path | None
    mode: int
    uid: int
    gid: int


def archive(items: Iterable[ArchiveItem]) -> Iterator[bytes]:
    """
    A tar stream of files and folders, made as it is read.

    :raises ContentRefused: if a folder holds links or devices
    """
    for item in items:
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
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while remaining:
            block = file.read(min(BLOCK, remaining))
            if not block:
                raise ArchiveRefused(f"{path} became shorter while it was read")
            remaining -= len(block)
            yield block
    yield b"\0" * (-size % tarfile.BLOCKSIZE)


def extract(stream: Iterable[bytes], target: Path, *, strip: int = 0, caps: Caps | None = None) -> None:
    """
    Write the files of a tar stream below a folder.

    :param target: folder; made if it is not there
    :param strip: leading components of each name that are dropped
    :raises ArchiveRefused: if it holds links, devices, names that lead out, or more than the caps allow
    """
    caps = caps or Caps()
    target.mkdir(parents=True, exist_ok=True)
    size = count = 0
    try:
        with tarfile.open(fileobj=_Reader(stream), mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                count += 1
                if count > caps.files:
                    raise ArchiveRefused(f"the archive holds more than {caps.files} files and folders")
                parts = _checked(member, strip)
                if not parts:
                    continue
                if member.isdir():
                    os.close(_folder(target, parts))
                    continue
                size += member.size
                if size > caps.size:
                    raise ArchiveRefused(f"the archive holds more than {caps.size} bytes")
                _write(tar, member, target, parts)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveRefused(f"the archive is damaged: {error}") from error


def _checked(member: tarfile.TarInfo, strip: int) -> list[str]:
    """The components of a member's name after stripping."""
    if not (member.isreg() or member.isdir()) or member.issparse():
        kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
        raise ArchiveRefused(f"'{_shown(member.name)}' in the archive is {kind}; outputs may hold regular files and folders only")
    name = member.name.removeprefix("./").rstrip("/")
    parts = name.split("/") if name not in ("", ".") else []
    if any(part in ("", ".", "..") for part in parts) or _UNSAFE.search(name):
        raise ArchiveRefused(f"the archive holds the unsafe name '{_shown(member.name)}'")
    if len(parts) > MAX_DEPTH or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME:
        raise ArchiveRefused(f"the archive holds a name that is too long or too deep: '{_shown(member.name)}'")
    return parts[strip:]


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, parts: list[str]) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ArchiveRefused(f"'{_shown(member.name)}' in the archive has no content")
    folder = _folder(target, parts[:-1])
    try:
        descriptor = os.open(
            parts[-1],
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o755 if member.mode & 0o100 else 0o644,
            dir_fd=folder,
        )
    except FileExistsError:
        raise ArchiveRefused(f"the archive holds '{_shown(member.name)}' twice") from None
    finally:
        os.close(folder)
    with open(descriptor, "wb") as file:
        while block := content.read(BLOCK):
            file.write(block)


def _folder(target: Path, parts: list[str]) -> int:
    """A descriptor of a folder below the target, made where needed, without following a link on the way."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags & ~os.O_NOFOLLOW)
    for part in parts:
        try:
            os.mkdir(part, 0o755, dir_fd=descriptor)
        except FileExistsError:
            pass
        try:
            deeper = os.open(part, flags, dir_fd=descriptor)
        except OSError as error:
            raise ArchiveRefused(f"'{_shown('/'.join(parts))}' in the archive goes through what is no folder") from error
        finally:
            os.close(descriptor)
        descriptor = deeper
    return descriptor


def _shown(name: str) -> str:
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= 120 else f"{text[:120]}…"


class _Reader(io.RawIOBase):
    """Chunks of bytes as a file to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly so many bytes, unless the stream ends."""
        parts = []
        while size:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            taken = self._rest if size < 0 else self._rest[:size]
            self._rest = self._rest[len(taken) :]
            size -= len(taken) if size > 0 else 0
            parts.append(taken)
        return b"".join(parts)
