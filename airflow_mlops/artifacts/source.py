# SPDX-License-Identifier: Apache-2.0
"""
Step code: packed once per run, named by its digest, the same for every step of the run.

The archive is a plain tar with sorted names, no times and no owners, so that the same code has the same digest
everywhere. It lies in the run's ``_source`` folder under its digest; ``current-<number>.json``, put if absent, says
which one counts: the highest. The first step that needs the code makes ``current-1.json``; a step that was cleared
packs anew and, if the code has changed, makes the next one, so that its own retries and the steps after it run the same
code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import ArtifactError, SourceRefused
from airflow_mlops.artifacts.source_files import MAX_FILES, MAX_SIZE, source_files, too_large
from airflow_mlops.artifacts.strict_json import canonical, parse
from airflow_mlops.artifacts.transfer import ArchiveItem, Caps, archive, extract

if TYPE_CHECKING:
    from airflow_mlops.artifacts.layout import Place
    from airflow_mlops.artifacts.store import Store

MAX_ARCHIVE = MAX_SIZE + MAX_FILES * 4096
"""Bytes of a packed folder: headers and padding come to its files."""

_MAX_POINTER = 16 << 20
_POINTER = re.compile(r"current-([0-9]{1,6})\.json\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Packed:
    """
    A packed source folder.

    :param digest: ``sha256:…`` of the archive
    :param data: the archive
    :param files: sha256 of each file by its path
    """

    digest: str
    data: bytes
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunSource:
    """
    The source that a step of a run uses.

    :param changed: files that were added, changed or removed since the run was packed last, if it was packed anew
    """

    digest: str
    data: bytes
    changed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Current:
    number: int
    digest: str
    files: dict[str, str]


def pack_source(folder: Path) -> Packed:
    """
    Pack a folder.

    :raises SourceRefused: if it is too large, or holds links that lead out or what is no file
    """
    sizes = source_files(folder)
    if sum(sizes.values()) > MAX_SIZE:
        raise too_large(folder, sizes)
    hashes: dict[str, str] = {}
    items: list[ArchiveItem] = []
    try:
        for name in sizes:
            path = folder / name
            data = path.read_bytes()
            hashes[name] = hashlib.sha256(data).hexdigest()
            items.append(ArchiveItem(name, data, 0o755 if path.stat().st_mode & 0o100 else 0o644, 0, 0))
    except OSError as error:
        raise SourceRefused(
            f"source folder {folder} cannot be packed: {error}; it was changed meanwhile, try again"
        ) from error
    packed = b"".join(archive(items))
    if len(packed) > MAX_ARCHIVE:
        raise too_large(folder, sizes)
    return Packed(f"sha256:{hashlib.sha256(packed).hexdigest()}", packed, hashes)


def unpack_source(data: bytes, target: Path) -> None:
    """
    Unpack what :func:`pack_source` packed.

    :raises ArchiveRefused: if it is something else
    """
    extract([data], target, caps=Caps(MAX_FILES, MAX_SIZE))


def source_for(store: Store, place: Place, folder: Path, *, fresh: bool) -> RunSource:
    """
    The source of a run: packed and stored by the first step that asks, read by all others.

    :param fresh: pack the folder anew, as for the first try after a clear
    :raises SourceRefused: if the folder cannot be packed, or what was packed is gone or changed
    """
    current = _current(store, place)
    if current is not None and not fresh:
        return RunSource(current.digest, stored_source(store, place, current.digest))
    packed = pack_source(folder)
    store.put_if_absent(_archive_key(place, packed.digest), packed.data)
    document = canonical({"version": 1, "digest": packed.digest, "files": packed.files})
    changed: list[str] = []
    while current is None or current.digest != packed.digest:
        if current is not None:
            changed = _changed(current.files, packed.files)
        number = current.number + 1 if current else 1
        if store.put_if_absent(f"{place.source_key}/current-{number}.json", document):
            return RunSource(packed.digest, packed.data, changed)
        # Another step was quicker. Its code counts, unless this one was cleared: that must not run older code.
        current = _current(store, place)
        if current is not None and not fresh:
            return RunSource(current.digest, stored_source(store, place, current.digest))
    return RunSource(packed.digest, packed.data, changed)


def _changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _archive_key(place: Place, digest: str) -> str:
    return f"{place.source_key}/{digest.replace(':', '-')}.tar"


def stored_source(store: Store, place: Place, digest: str) -> bytes:
    """
    Packed step code that a run has stored.

    :raises SourceRefused: if it is gone, or not what its digest says
    """
    key = _archive_key(place, digest)
    try:
        data = store.read(key, MAX_ARCHIVE)
    except ArtifactError as error:
        raise SourceRefused(
            f"the step code of this run cannot be read: {error}; clear the step to pack it anew"
        ) from error
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise SourceRefused(f"{store.uri(key)} was changed since it was packed; clear the step to pack the code anew")
    return data


def _current(store: Store, place: Place) -> _Current | None:
    numbers = [
        int(found[1]) for key in store.list(place.source_key) if (found := _POINTER.match(key.rpartition("/")[2]))
    ]
    if not numbers:
        return None
    number = max(numbers)
    key = f"{place.source_key}/current-{number}.json"
    try:
        document = parse(store.read(key, _MAX_POINTER), limit=_MAX_POINTER)
    except ValueError as error:
        raise SourceRefused(f"{store.uri(key)} {error}; delete it and clear the step") from None
    digest, files = (document.get("digest"), document.get("files")) if isinstance(document, dict) else (None, None)
    if not isinstance(digest, str) or not _DIGEST.match(digest) or not isinstance(files, dict):
        raise SourceRefused(f"{store.uri(key)} says nothing about a source folder; delete it and clear the step")
    return _Current(number, digest, files)
