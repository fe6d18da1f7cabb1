# SPDX-License-Identifier: Apache-2.0
"""Data that lies elsewhere and is brought in by reference: looked at, never copied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_mlops.artifacts.artifact import Artifact
from airflow_mlops.artifacts.digests import BLOCK, FileDigest, digest_path, tree_digest
from airflow_mlops.artifacts.errors import NotFound, StoreFailed


def external_artifact(
    name: str, type_name: str, uri: str, *, digest: str, storage_options: Mapping[str, Any] | None = None
) -> Artifact:
    """
    A reference to data at a URI.

    :param digest: ``content`` reads all of it, ``etag`` asks the store, ``none`` does not look at all
    :param storage_options: keyword arguments of fsspec's file system
    :raises NotFound: if there is nothing
    :raises StoreFailed: if it cannot be looked at that way
    """
    if digest == "none":
        return Artifact(name, type_name, uri, "none")
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return _local(name, type_name, uri, Path(unquote(parts.path)), digest)
    return _remote(name, type_name, uri, digest, dict(storage_options or {}))


def _local(name: str, type_name: str, uri: str, path: Path, digest: str) -> Artifact:
    if digest == "etag":
        raise StoreFailed(f"{uri} is a local path, which has no ETag; use digest: content or none")
    if not path.exists():
        raise NotFound(f"{uri} does not exist on this worker")
    found = digest_path(path)
    return Artifact(name, type_name, uri, found.digest, found.size, found.is_tree)


def _remote(name: str, type_name: str, uri: str, digest: str, options: dict[str, Any]) -> Artifact:
    import fsspec

    try:
        file_system, path = fsspec.core.url_to_fs(uri, **options)
        info = file_system.info(path)
    except FileNotFoundError:
        raise NotFound(f"{uri} does not exist") from None
    except Exception as error:  # every back end has exception classes of its own
        raise StoreFailed(f"{uri} cannot be looked at: {type(error).__name__}: {error}") from error
    if digest == "etag":
        tag = str(info.get("ETag") or info.get("etag") or "").strip('"')
        if info["type"] != "file" or not tag:
            raise StoreFailed(f"{uri} has no ETag (folders have none); use digest: content or none")
        return Artifact(name, type_name, uri, f"etag:{tag}", info.get("size"))
    if info["type"] == "file":
        return Artifact(name, type_name, uri, f"sha256:{_sha256(file_system, path)}", info.get("size"))
    files = []
    for found, details in sorted(file_system.find(path, detail=True).items()):
        relative = str(found)[len(str(path).rstrip("/")) + 1 :]
        files.append(FileDigest(relative, int(details["size"]), _sha256(file_system, found)))
    return Artifact(name, type_name, uri, tree_digest(files), sum(file.size for file in files), True)


def _sha256(file_system: Any, path: str) -> str:
    digest = hashlib.sha256()
    with file_system.open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
