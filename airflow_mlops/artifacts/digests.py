# SPDX-License-Identifier: Apache-2.0
"""
Digests of files and folders: what an artifact *is*, whatever it is called and wherever it lies.

A file's is ``sha256:<hex>`` of its bytes. A folder's is ``sha256-tree:<hex>`` of a listing: for each file, in the order
of the UTF-8 bytes of their names, one line ``<sha256 hex> <size> <name>\\n``. Modes, times, owners and empty folders do
not count.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.artifacts.errors import ContentRefused
from airflow_mlops.artifacts.scan import Found, readable, scan

BLOCK = 1 << 20
_WORKERS = 8
_SMALL = 4 << 20
"""Bytes below which threads cost more than they gain."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """
    A file of an artifact.

    :param name: path within the folder; empty for an artifact that is one file
    :param size: bytes
    :param sha256: hexadecimal
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Digested:
    """
    What was found at a path.

    :param size: bytes, of all files together
    :param seconds: how long reading and hashing took
    """

    digest: str
    size: int
    is_tree: bool
    files: Sequence[FileDigest]
    seconds: float


def digest_file(path: Path) -> str:
    """
    ``sha256:<hex>`` of a file.

    :raises ContentRefused: if it is no regular file
    """
    if path.is_dir():
        raise ContentRefused(f"{path} is a folder; expected a file")
    return digest_path(path).digest


def digest_path(path: Path, *, sync: bool = False, own: bool = False) -> Digested:
    """
    Digest a file or a folder. Files are hashed side by side: hashing leaves Python's lock.

    :param sync: wait until the content is on the disk
    :param own: refuse files with several names
    :raises FileNotFoundError: if there is nothing
    :raises ContentRefused: if there are links, devices, or files that change while they are read
    """
    started = time.perf_counter()
    is_tree = path.is_dir()
    found = scan(path, own=own)
    if len(found) > 1 and (sync or sum(item.size for item in found) > _SMALL):
        # Hashing needs a core each, waiting for the disk none.
        with ThreadPoolExecutor(_WORKERS if sync else min(_WORKERS, os.cpu_count() or 1)) as pool:
            files = tuple(pool.map(lambda item: _digest_one(item, sync), found))
    else:
        files = tuple(_digest_one(item, sync) for item in found)
    return Digested(
        digest=tree_digest(files) if is_tree else f"sha256:{files[0].sha256}",
        size=sum(item.size for item in found),
        is_tree=is_tree,
        files=files,
        seconds=time.perf_counter() - started,
    )


def tree_digest(files: Sequence[FileDigest]) -> str:
    """The digest of a folder that holds these files."""
    listing = hashlib.sha256()
    for item in sorted(files, key=lambda file: file.name.encode()):
        listing.update(f"{item.sha256} {item.size} {item.name}\n".encode())
    return f"sha256-tree:{listing.hexdigest()}"


def _digest_one(found: Found, sync: bool) -> FileDigest:
    digest = hashlib.sha256()
    size = 0
    with readable(found.path):
        descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        buffer = memoryview(bytearray(min(BLOCK, found.size + 1)))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            size += count
        if sync:
            os.fsync(descriptor)
        after = os.fstat(descriptor)
    if not size == found.size == after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise ContentRefused(
            f"{found.path} changed while it was read; something still writes to it after the program has ended"
        )
    return FileDigest(found.name, size, digest.hexdigest())
