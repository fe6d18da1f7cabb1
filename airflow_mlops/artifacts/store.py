# SPDX-License-Identifier: Apache-2.0
"""
The store: files and small documents by key, under one root, on a file system or in an object store.

Nothing is ever overwritten by :meth:`Store.put_if_absent`, which is what commits rest on: of any number of writers
exactly one wins. Opening a store touches neither disk nor network.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_mlops.artifacts.errors import ReferenceRefused, StoreFailed

if TYPE_CHECKING:
    from airflow_mlops.artifacts.digests import Digested

MAX_KEY = 4096
"""Characters of a key. Object stores allow fewer (1024 bytes, root included) and say so themselves."""

FileSystem = Callable[[], Any]
"""Makes a file system of fsspec's, when it is needed first; may be called again in a process that was forked."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


class Store(ABC):
    """
    Files and documents by key. Keys are relative POSIX paths.

    :param url: the root, without a slash at the end
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @staticmethod
    def open(
        url: str, storage_options: Mapping[str, Any] | None = None, file_system: FileSystem | None = None
    ) -> Store:
        """
        Open a store without touching it.

        :param url: ``file:///folder``, an absolute path, or a URL that fsspec knows, such as ``s3://bucket/prefix``
        :param storage_options: keyword arguments of fsspec's file system, such as ``{"key": …, "secret": …,
            "endpoint_url": …}``
        :param file_system: makes the file system in place of fsspec, where somebody else knows the credentials
        :raises StoreFailed: if the URL is not one of a store
        """
        # Leaf modules: a store on a file system must not import fsspec, whose import is most of a task's start.
        scheme, rest = _split(url)
        if scheme == "file":
            from airflow_mlops.artifacts.file_store import FileStore

            return FileStore(rest)
        from airflow_mlops.artifacts.object_store import ObjectStore

        return ObjectStore(scheme, rest, dict(storage_options or {}), file_system)

    def uri(self, key: str) -> str:
        """
        The URI of a key.

        :raises ReferenceRefused: if the key leads out of the store
        """
        return f"{self.url}/{check_key(key)}"

    def contains(self, uri: str) -> bool:
        """Whether a URI lies under the root."""
        try:
            self.key(uri)
        except ReferenceRefused:
            return False
        return True

    def key(self, uri: str) -> str:
        """
        The key of a URI.

        :raises ReferenceRefused: if the URI does not lie under the root
        """
        if not uri.startswith(self.url + "/"):
            raise ReferenceRefused(
                f"{uri[:300]!r} does not lie in the store {self.url}; expected a URI that starts with {self.url}/"
            )
        return check_key(uri[len(self.url) + 1 :])

    def local_path(self, key: str) -> Path | None:
        """
        The path of a key where the store is a folder of this machine, else ``None``. No copy is made.

        :raises ReferenceRefused: if the key leads out of the store
        """
        return None

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        """
        Write a document, whole or not at all, unless there is one.

        :param durable: wait until it would outlive a power failure; what means nothing after one need not wait
        :return: whether it was written; ``False`` if the key was taken
        :raises StoreFailed: if the store cannot do that
        """

    @abstractmethod
    def read(self, key: str, limit: int) -> bytes:
        """
        Read a document.

        :param limit: largest size in bytes
        :raises NotFound: if there is none
        :raises DocumentInvalid: if it is larger
        :raises StoreFailed: if the store cannot be read
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """
        Whether there is a file or folder.

        :raises StoreFailed: if the store cannot be read
        """

    @abstractmethod
    def list(self, prefix: str) -> list[str]:
        """
        Keys of the files and folders right under a folder, in order; none if there is no such folder.

        :raises StoreFailed: if the store cannot be read
        """

    @abstractmethod
    def delete_tree(self, key: str) -> None:
        """
        Delete a file or folder, read-only ones as well. Nothing happens if there is none.

        :raises StoreFailed: if it cannot be deleted
        """

    @abstractmethod
    def upload(self, local: Path, key: str) -> None:
        """
        Copy a file or folder of this machine into the store and check the sizes. Empty folders are left out.

        :raises ContentRefused: if it holds links, devices or unsafe names
        :raises StoreFailed: if the store cannot be written, or holds something else afterwards
        """

    @abstractmethod
    def download(self, key: str, local: Path) -> None:
        """
        Copy a file or folder out of the store and check the sizes.

        :param local: where it will lie; the folders above it are made
        :raises NotFound: if there is none
        :raises StoreFailed: if the store cannot be read, or the sizes differ
        """

    @abstractmethod
    def copy(self, source: str, target: str) -> None:
        """
        Copy a file or folder within the store and check the sizes, without its bytes passing through this machine
        where the store can do that. In a folder of this machine the copy appears whole or not at all; in an object
        store each of its files does.

        :param source: key of a file or folder
        :param target: key where nothing is yet
        :raises NotFound: if there is no source, or it is an empty folder
        :raises ContentRefused: if it holds links, devices or unsafe names
        :raises StoreFailed: if the target is taken, or the store cannot do that
        """

    @abstractmethod
    def digest(self, key: str) -> Digested:
        """
        Read a file or folder where it lies, and say what it is. Nothing is kept on this machine.

        :raises NotFound: if there is none
        :raises ContentRefused: if it holds links or devices, or changes while it is read
        :raises StoreFailed: if the store cannot be read
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def check_key(key: str) -> str:
    """
    Check that a key stays under the root.

    :raises ReferenceRefused: if it is empty, absolute, has ``.``, ``..`` or empty components, or control characters
    """
    parts = key.split("/")
    if len(key) > MAX_KEY or _UNSAFE.search(key) or any(part in ("", ".", "..") for part in parts):
        raise ReferenceRefused(
            f"{key[:300]!r} is no key of a store; expected a relative path such as 'run/step/manifest.json'"
        )
    return key


def _split(url: str) -> tuple[str, str]:
    """Scheme and rest of a store's URL; the rest of a file URL is an absolute path."""
    if url.startswith("/"):
        return "file", _absolute(url, url)
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.match(scheme):
        raise StoreFailed(
            f"the store URL {_shown(url)!r} has no scheme; expected file:///folder, s3://bucket/prefix or another "
            "URL that fsspec knows"
        )
    if scheme == "file":
        # Python's own Path.as_uri() quotes; the folder is called what the quoted name says.
        return scheme, _absolute(unquote(rest), url)
    rest = rest.strip("/")
    if "@" in rest.split("/")[0] and scheme in ("s3", "s3a", "gs", "gcs"):
        raise StoreFailed(
            f"the store URL {scheme}://… holds credentials, which would end up in every manifest; give them as "
            "storage_options instead"
        )
    if not rest or "?" in rest or "#" in rest or "::" in rest or _UNSAFE.search(rest) or ".." in rest.split("/"):
        raise StoreFailed(f"the store URL {_shown(url)!r} is not of the form {scheme}://bucket/prefix")
    return scheme, rest


def _absolute(path: str, url: str) -> str:
    if not path.startswith("/") or _UNSAFE.search(path) or ".." in path.split("/") or not path.strip("/"):
        raise StoreFailed(f"the store URL {_shown(url)!r} names no absolute folder; expected file:///folder")
    return str(PurePosixPath("/" + path.strip("/")))


def _shown(url: str) -> str:
    """A URL without what may be a password."""
    if "://" not in url:
        return url[:300]
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300]
