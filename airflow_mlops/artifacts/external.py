# SPDX-License-Identifier: Apache-2.0
"""Data that lies elsewhere and is brought in by reference: looked at, never copied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_mlops.artifacts.artifact import Artifact
from airflow_mlops.artifacts.digests import BLOCK, FileDigest, digest_path, tree_digest
from airflow_mlops.artifacts.errors import ContentRefused, NotFound, ReferenceRefused, StoreFailed
from airflow_mlops.artifacts.scan import MAX_FILES, check_name

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import FileSystem

DIGESTS = ("content", "etag", "none")


def external_artifact(
    name: str,
    type_name: str,
    uri: str,
    *,
    digest: str,
    storage_options: Mapping[str, Any] | None = None,
    file_system: FileSystem | None = None,
) -> Artifact:
    """
    A reference to data at a URI.

    :param digest: ``content`` reads all of it, ``etag`` asks the store, ``none`` does not look at all
    :param storage_options: keyword arguments of fsspec's file system
    :param file_system: makes it in place of fsspec
    :raises StoreFailed: if it cannot be looked at that way
    :raises ReferenceRefused: if the URI is none, or nothing is there on this worker
    """
    if digest not in DIGESTS:
        raise ReferenceRefused(f"digest is '{digest}'; expected one of {', '.join(DIGESTS)}")
    parts = urlsplit(uri)
    if parts.password is not None:
        raise ReferenceRefused(
            f"the URI of '{name}' holds a password, which would end up in manifests; give it in [mlops] storage_options"
        )
    if digest == "none":
        artifact = Artifact(name, type_name, uri, "none")
    elif parts.scheme == "file":
        artifact = _local(name, type_name, uri, Path(unquote(parts.path)), digest)
    else:
        artifact = _remote(name, type_name, uri, digest, dict(storage_options or {}), file_system)
    # What is handed on must pass the check of whoever gets it.
    return Artifact.from_json(artifact.to_json())


def _local(name: str, type_name: str, uri: str, path: Path, digest: str) -> Artifact:
    if digest == "etag":
        raise ReferenceRefused(f"{uri} is a local path, which has no ETag; use digest: content or none")
    try:
        found = digest_path(path.resolve())
    except FileNotFoundError:
        raise ReferenceRefused(f"{uri} does not exist on this worker; expected the file or folder to import") from None
    except OSError as error:
        raise StoreFailed(
            f"{uri} cannot be read: {error.strerror}; let the worker read it, or use digest: none"
        ) from error
    # The program sees a file under its own name: many tools go by the suffix.
    return Artifact(name, type_name, uri, found.digest, found.size, found.is_tree, None if found.is_tree else path.name)


def _remote(
    name: str, type_name: str, uri: str, digest: str, options: dict[str, Any], make: FileSystem | None
) -> Artifact:
    import fsspec

    protocol = fsspec.utils.get_protocol(uri)
    if make is None and protocol not in fsspec.available_protocols():
        raise ReferenceRefused(
            f"{uri} begins with '{protocol}', which no file system here knows; expected one such as s3://…"
        )
    try:
        return _looked_at(name, type_name, uri, digest, options, make)
    except NotFound as error:
        raise ReferenceRefused(str(error)) from error


def _looked_at(
    name: str, type_name: str, uri: str, digest: str, options: dict[str, Any], make: FileSystem | None
) -> Artifact:
    from airflow_mlops.artifacts.object_store import failing

    with failing("look at", uri, options):
        if make is not None:
            file_system = make()
            path = file_system._strip_protocol(uri)
            file_system.invalidate_cache()
        else:
            import fsspec

            file_system, path = fsspec.core.url_to_fs(uri, **{"use_listings_cache": False, **options})
        info = file_system.info(path)
        if digest == "etag":
            return Artifact(name, type_name, uri, f"etag:{_etag(uri, info)}", info.get("size"))
        if info["type"] == "file":
            sha256, size = _read(file_system, path)
            return Artifact(name, type_name, uri, f"sha256:{sha256}", size, file=str(path).rsplit("/", 1)[-1])
        files = _digests(file_system, str(path).rstrip("/"), uri)
        return Artifact(name, type_name, uri, tree_digest(files), sum(file.size for file in files), True)


def _etag(uri: str, info: Mapping[str, Any]) -> str:
    tag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    if info["type"] != "file" or not tag:
        raise ReferenceRefused(f"{uri} has no ETag (folders have none); use digest: content or none")
    return tag


def _digests(file_system: Any, folder: str, uri: str) -> list[FileDigest]:
    found = file_system.find(folder)
    if len(found) > MAX_FILES:
        raise StoreFailed(f"{uri} holds more than {MAX_FILES} files; use digest: none, or pack them into fewer")
    files = []
    for path in found:
        relative = str(path)[len(folder) + 1 :]
        if not relative or relative.endswith("/"):
            continue  # a marker that some tools write for a folder
        try:
            check_name(relative, Path(uri))
        except ContentRefused as error:
            raise StoreFailed(f"{error}, or use digest: none") from None
        sha256, size = _read(file_system, path)
        files.append(FileDigest(relative, size, sha256))
    return files


def _read(file_system: Any, path: str) -> tuple[str, int]:
    """SHA-256 and size of what is read, which may not be the size that a listing said a moment before."""
    digest = hashlib.sha256()
    size = 0
    with file_system.open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
