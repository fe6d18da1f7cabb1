# SPDX-License-Identifier: Apache-2.0
"""
Digests of files and folders: what an artifact *is*, whatever it is called and wherever it lies.

A file's is ``sha256:<hex>`` of its bytes. A folder's is ``sha256-tree:<hex>`` of a listing: for each file, in the order of the UTF-8 bytes of
their names, one line ``<sha256 hex> <size> <name>\\n``. Modes, times, owners and empty folders do not count.
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
from airflow_mlops.artifacts.scan import Found, scan

BLOCK = 1 << 20
_WORKERS = min(8, os.cpu_count() or 1)


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
    """``sha256:<hex>`` of a file."""
    return f"sha256:{_sha256(os.fspath(path))}"


def digest_path(path: Path) -> Digested:
    """
    Digest a file or a folder. Files are hashed side by side: hashing leaves Python's lock.

    :raises FileNotFoundError: if there is nothing
    :raises ContentRefused: if there are links, devices, or files that change while they are read
    """
    started = time.perf_counter()
    found = scan(path)
    is_tree = path.is_dir()
    if len(found) > 1:
        with ThreadPoolExecutor(_WORKERS) as pool:
            hashes = list(pool.map(_checked_sha256, found))
    else:
        hashes = [_checked_sha256(item) for item in found]
    files = tuple(FileDigest(item.name, item.size, value) for item, value in zip(found, hashes, strict=True))
    return Digested(
        digest=tree_digest(files) if is_tree else f"sha256:{files[0].sha256}",
        size=sum(item.size for item in files),
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


def _checked_sha256(found: Found) -> str:
    value = _sha256(found.path)
    if os.lstat(found.path).st_size != found.size:
        raise ContentRefused(f"{found.path} changed while it was read; something still writes to it after the program has ended")
    return value


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        buffer = memoryview(bytearray(BLOCK))
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
    return digest.hexdigest()
