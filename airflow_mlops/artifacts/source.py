# SPDX-License-Identifier: Apache-2.0
"""
Step code: packed once per run, named by its digest, the same for every step of the run.

The archive is a plain tar with sorted names, no times and no owners, so that the same code has the same digest everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import ArtifactError, SourceRefused, listed
from airflow_mlops.artifacts.layout import Place
from airflow_mlops.artifacts.store import Store
from airflow_mlops.artifacts.transfer import ArchiveItem, Caps, archive, extract

if TYPE_CHECKING:
    from pathspec import PathSpec

ALWAYS_IGNORED = (
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", "node_modules", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".ipynb_checkpoints", ".DS_Store", ".tox",
)  # fmt: skip
IGNORE_FILES = (".gitignore", ".mlopsignore")
MAX_FILES = 10_000
MAX_SIZE = 64 << 20
"""Bytes of a source folder: it is code, and it is copied for each attempt."""

_INDEX_LIMIT = 4 << 20


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

    :param changed: files that differ from what the run began with, if it was packed anew
    """

    digest: str
    data: bytes
    changed: Sequence[str] = ()


def pack_source(folder: Path) -> Packed:
    """
    Pack a folder.

    :raises SourceRefused: if it is too large, or holds links that lead out or what is no file
    """
    names = sorted(_files(folder), key=lambda name: name.encode("utf-8", "surrogatepass"))
    _check_size(folder, names)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    items = [ArchiveItem(name, (folder / name).resolve(), 0o644, 0, 0) for name in names]
    try:
        data = b"".join(archive(items))
    except (ArtifactError, OSError) as error:
        raise SourceRefused(f"source folder {folder} cannot be packed: {error}") from error
    return Packed(f"sha256:{hashlib.sha256(data).hexdigest()}", data, hashes)


def unpack_source(data: bytes, target: Path) -> None:
    """
    Unpack what :func:`pack_source` packed.

    :raises ArchiveRefused: if it is something else
    """
    extract([data], target, caps=Caps(MAX_FILES, MAX_SIZE))


def source_for(store: Store, place: Place, folder: Path, *, fresh: bool) -> RunSource:
    """
    The source of a run: packed and stored by the first step that asks, read by all others.

    :param fresh: pack the folder anew for this step, as after a clear
    :raises SourceRefused: if the folder cannot be packed
    """
    index_key = f"{place.source_key}/index.json"
    index = _index(store, index_key)
    if index is None or fresh:
        packed = pack_source(folder)
        store.put_if_absent(_archive_key(place, packed.digest), packed.data)
        document = json.dumps({"version": 1, "digest": packed.digest, "files": packed.files}, sort_keys=True)
        if index is None and store.put_if_absent(index_key, document.encode()):
            return RunSource(packed.digest, packed.data)
        if fresh:
            return RunSource(packed.digest, packed.data, _changed(index or _index(store, index_key), packed.files))
        index = _index(store, index_key)
    if index is None:
        raise SourceRefused(f"{store.uri(index_key)} was deleted while the run goes on")
    digest = str(index["digest"])
    data = store.read(_archive_key(place, digest), 2 * MAX_SIZE)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise SourceRefused(f"{store.uri(_archive_key(place, digest))} was changed since it was packed")
    return RunSource(digest, data)


def _archive_key(place: Place, digest: str) -> str:
    return f"{place.source_key}/{digest.replace(':', '-')}.tar"


def _index(store: Store, key: str) -> dict[str, object] | None:
    if not store.exists(key):
        return None
    document = json.loads(store.read(key, _INDEX_LIMIT))
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict) or "digest" not in document:
        raise SourceRefused(f"{store.uri(key)} is no index of a source folder")
    return document


def _changed(index: dict[str, object] | None, files: dict[str, str]) -> list[str]:
    before = index["files"] if index else {}
    assert isinstance(before, dict)  # noqa: S101 - checked where it was read
    return sorted(name for name in {*before, *files} if before.get(name) != files.get(name))


def _files(folder: Path) -> Iterable[str]:
    """Paths of the files that are packed. A folder's own ignore files count for what is below it."""
    specs: list[tuple[str, PathSpec]] = [("", _patterns(ALWAYS_IGNORED))]
    for current, folders, names in os.walk(folder):
        prefix = os.path.relpath(current, folder).replace(os.sep, "/")
        prefix = "" if prefix == "." else prefix + "/"
        for ignore_file in IGNORE_FILES:
            if ignore_file in names:
                lines = Path(current, ignore_file).read_text(encoding="utf-8", errors="replace").splitlines()
                specs.append((prefix, _patterns(lines)))
        folders[:] = [
            name
            for name in sorted(folders)
            if not _ignored(f"{prefix}{name}/", specs) and not Path(current, name).is_symlink()
        ]
        for name in names:
            path = f"{prefix}{name}"
            if not _ignored(path, specs):
                _check_file(folder, path)
                yield path


def _patterns(lines: Iterable[str]) -> PathSpec:
    import pathspec

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _ignored(path: str, specs: Sequence[tuple[str, PathSpec]]) -> bool:
    return any(path.startswith(prefix) and spec.match_file(path[len(prefix) :]) for prefix, spec in specs)


def _check_file(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise SourceRefused(f"{path} is a link that leads out of the source folder; copy the file, or list it in .mlopsignore")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceRefused(f"{path} cannot be read: {error.strerror}; mend it, or list it in .mlopsignore") from error
    if not stat.S_ISREG(mode):
        raise SourceRefused(f"{path} is no regular file; remove it, or list it in .mlopsignore")


def _check_size(folder: Path, names: Sequence[str]) -> None:
    sizes = {name: (folder / name).stat().st_size for name in names}
    if len(names) > MAX_FILES or sum(sizes.values()) > MAX_SIZE:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        shown = listed([f"{name} ({sizes[name]} bytes)" for name in largest], "file")
        raise SourceRefused(
            f"source folder {folder} holds {len(names)} files with {sum(sizes.values())} bytes; at most {MAX_FILES} files and {MAX_SIZE} "
            f"bytes are allowed. The largest: {shown}. List what is no code in .mlopsignore, and hand data on as artifacts"
        )
