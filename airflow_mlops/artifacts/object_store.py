# SPDX-License-Identifier: Apache-2.0
"""
A store behind fsspec: S3 and what speaks its protocol, Google Cloud Storage, Azure. The commit is a conditional put.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from airflow_mlops.artifacts.digests import Digested, FileDigest, tree_digest
from airflow_mlops.artifacts.errors import ArtifactError, DocumentInvalid, NotFound, ReferenceRefused, StoreFailed
from airflow_mlops.artifacts.scan import MAX_FILES, scan
from airflow_mlops.artifacts.store import FileSystem, Store, check_key

EXCLUSIVE_CREATE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""
Protocols whose fsspec file systems create a file only if there is none, decided by the server. The others look first
and write then.
"""

MAX_OBJECT_KEY = 1024
"""Bytes of a key in S3 and Google Cloud Storage, prefix included."""

THREADS = 16

_READ_BLOCK = 16 << 20
"""Bytes asked for at once where files are read to be hashed; each thread holds one such block."""

_READERS = 8
_CONFLICT_TRIES = 6
_SECRET_OPTION = re.compile(r"key|secret|token|pass|cred|sas|account|connection", re.IGNORECASE)
_TAKEN = {"PreconditionFailed", "412", "BlobAlreadyExists", "conditionNotMet"}
_proven: set[str] = set()
"""Stores that refused a second conditional put, as they must; looked at once in a process."""


class ObjectStore(Store):
    """
    A bucket, or a prefix in one, as a store.

    :param protocol: fsspec's name for the kind of store
    :param root: bucket and prefix
    :param options: keyword arguments of fsspec's file system
    :param file_system: makes it in place of fsspec
    """

    def __init__(
        self, protocol: str, root: str, options: Mapping[str, Any], file_system: FileSystem | None = None
    ) -> None:
        super().__init__(f"{protocol}://{root}")
        self._protocol = protocol
        self._root = root
        self._options = dict(options)
        self._file_system = file_system or partial(_of_fsspec, protocol, self._options)
        self._opened: tuple[int, Any] | None = None

    @property
    def _fs(self) -> Any:
        # Clients do not survive a fork: their event loop runs in a thread of the parent.
        if self._opened is None or self._opened[0] != os.getpid():
            with self._failing("open", None):
                fs = self._file_system()
            # Listings are always fresh: other processes write, too.
            if (cache := getattr(fs, "dircache", None)) is not None:
                cache.use_listings_cache = False
            self._opened = (os.getpid(), fs)
        return self._opened[1]

    def _path(self, key: str) -> str:
        path = f"{self._root}/{check_key(key)}"
        if "?versionId=" in path:
            raise ReferenceRefused(
                f"{key[:300]!r} holds '?versionId=', which object stores take for something else; give the file "
                "another name"
            )
        if len(path.encode("utf-8")) > MAX_OBJECT_KEY:
            raise StoreFailed(
                f"the key {path[:100]!r}… is longer than {MAX_OBJECT_KEY} bytes, which object stores do not take; "
                "shorten names of folders and files"
            )
        return path

    def put_if_absent(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        path = self._path(key)
        self._check_exclusive()
        with self._failing("write", key):
            if not self._create(path, data):
                return False
            if self.url not in _proven:
                # A server that does not know the condition overwrites instead; with the same bytes, that does no harm.
                if self._create(path, data):
                    raise StoreFailed(
                        f"the server of {self.url} ignores conditions on writes (If-None-Match: *), and without them "
                        "a commit is not safe; "
                        "upgrade it or use another store ([mlops] store)"
                    )
                _proven.add(self.url)
        return True

    def _create(self, path: str, data: bytes) -> bool:
        for number in range(_CONFLICT_TRIES):
            try:
                self._fs.pipe_file(path, data, mode="create")
                return True
            except FileExistsError:
                return False
            except Exception as error:
                codes = _codes(error)
                if codes & _TAKEN:
                    return False
                # Two writers at the very same moment: S3 asks one of them, or both, to come again.
                if "ConditionalRequestConflict" not in codes or number == _CONFLICT_TRIES - 1:
                    raise
                time.sleep(random.uniform(0.05, 0.2) * 2**number)  # noqa: S311 - spreads retries, guards nothing
        return False

    def _check_exclusive(self) -> None:
        create = getattr(self._fs, "_pipe_file", None)
        if (
            self._protocol not in EXCLUSIVE_CREATE
            or create is None
            or "mode" not in inspect.signature(create).parameters
        ):
            raise StoreFailed(
                f"{self.url}: the installed fsspec file system for {self._protocol}:// cannot create a file only if "
                "there is none, and without that a commit "
                f"is not safe; use file:// or one of {', '.join(EXCLUSIVE_CREATE)} ([mlops] store), with a current "
                "s3fs, gcsfs or adlfs"
            )

    def read(self, key: str, limit: int) -> bytes:
        path = self._path(key)
        with self._failing("read", key):
            try:
                data = bytes(self._fs.cat_file(path, start=0, end=limit + 1))
            except Exception as error:
                # The first byte of an empty object cannot be asked for.
                if not _codes(error) & {"InvalidRange", "416"}:
                    raise
                data = b""
        if len(data) > limit:
            raise DocumentInvalid(
                f"{self.uri(key)} is larger than the {limit} bytes that a document of its kind may have"
            )
        return data

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with self._failing("read", key):
            try:
                self._fs.info(path)
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str) -> list[str]:
        path = self._path(prefix)
        with self._failing("list", prefix):
            try:
                names = self._fs.ls(path, detail=False)
            except FileNotFoundError:
                return []
        children = {name.rstrip("/").rsplit("/", 1)[-1] for name in names if name.rstrip("/") != path}
        return sorted(check_key(f"{prefix}/{name}") for name in children)

    def delete_tree(self, key: str) -> None:
        path = self._path(key)
        with self._failing("delete", key):
            names = [str(name) for name in self._fs.find(path)]
            # Many at once are deleted by patterns, in which these characters have a meaning.
            patterns = [name for name in names if set("*?[") & set(name)]
            _all(partial(self._fs.rm_file, name) for name in patterns)
            if plain := sorted(set(names) - set(patterns)):
                self._fs.rm(plain)

    def upload(self, local: Path, key: str) -> None:
        files = scan(local)
        sizes = {file.name: file.size for file in files}
        paths = {file.name: self._path(f"{key}/{file.name}" if file.name else key) for file in files}
        with self._failing("write", key):
            _all(partial(self._fs.put_file, file.path, paths[file.name]) for file in files)
            self._compare(sizes, self._sizes(key), key)

    def download(self, key: str, local: Path) -> None:
        with self._failing("read", key):
            sizes = self._found(key)
            targets = {name: local / name if name else local for name in sizes}
            for folder in {target.parent for target in targets.values()}:
                folder.mkdir(parents=True, exist_ok=True)
            paths = {name: self._path(f"{key}/{name}" if name else key) for name in sizes}
            _all(partial(self._fs.get_file, paths[name], str(targets[name])) for name in sizes)
            self._compare(sizes, {name: target.stat().st_size for name, target in targets.items()}, key)

    def copy(self, source: str, target: str) -> None:
        if self.exists(target):
            raise StoreFailed(f"{self.uri(target)} is taken; expected a place where nothing is yet")
        with self._failing("copy", source):
            sizes = self._found(source)
            ends = {name: f"/{name}" if name else "" for name in sizes}
            _all(partial(self._fs.cp_file, self._path(source + end), self._path(target + end)) for end in ends.values())
            self._compare(sizes, self._sizes(target), target)

    def digest(self, key: str) -> Digested:
        started = time.perf_counter()
        with self._failing("read", key):
            sizes = self._found(key)
            with ThreadPoolExecutor(_READERS, thread_name_prefix="mlops-store") as pool:
                files = tuple(pool.map(lambda name: self._digest_one(key, name, sizes[name]), sizes))
        is_tree = "" not in sizes
        return Digested(
            digest=tree_digest(files) if is_tree else f"sha256:{files[0].sha256}",
            size=sum(sizes.values()),
            is_tree=is_tree,
            files=files,
            seconds=time.perf_counter() - started,
        )

    def _digest_one(self, key: str, name: str, size: int) -> FileDigest:
        digest = hashlib.sha256()
        path = self._path(f"{key}/{name}" if name else key)
        read = 0
        while read < size:
            block = self._fs.cat_file(path, start=read, end=min(size, read + _READ_BLOCK))
            digest.update(block)
            read += len(block)
            if not block or read > size:
                raise StoreFailed(f"{self.uri(key)}: '{name}' changed while it was read; try again")
        return FileDigest(name, size, digest.hexdigest())

    def _found(self, key: str) -> dict[str, int]:
        """
        Sizes of the files of what must be there.

        :raises FileNotFoundError: if it is not
        """
        if not (sizes := self._sizes(key)):
            raise FileNotFoundError(key)
        # A file and a folder of one name are two things to an object store, and one to everybody else.
        return {"": sizes[""]} if "" in sizes else sizes

    def _sizes(self, key: str) -> dict[str, int]:
        """Sizes of all files of a folder by their names in it; a single file has an empty name."""
        path = self._path(key)
        found = self._fs.find(path, detail=True)
        if len(found) > MAX_FILES:
            raise StoreFailed(f"{self.uri(key)} holds more than {MAX_FILES} files; pack them into fewer")
        sizes: dict[str, int] = {}
        for full, details in found.items():
            name = full[len(path) + 1 :]
            if name.endswith("/") or (details["size"] == 0 and full.endswith("/")):
                continue  # a marker that some tools write for a folder
            sizes[check_key(name) if name else ""] = int(details["size"])
        return sizes

    def _compare(self, expected: Mapping[str, int], found: Mapping[str, int], key: str) -> None:
        for name, size in expected.items():
            if found.get(name) != size:
                what = f"{found[name]} bytes" if name in found else "missing"
                raise StoreFailed(
                    f"{self.uri(key)}: after the transfer '{name}' is {what}, expected {size} bytes; it was changed "
                    "meanwhile, try again"
                )

    def _failing(self, action: str, key: str | None) -> AbstractContextManager[None]:
        return failing(action, self.url if key is None else self.uri(key), self._options)


@contextmanager
def failing(action: str, where: str, options: Mapping[str, Any]) -> Iterator[None]:
    """
    Turn what a back end says into words that name the place, and no credentials.

    :param action: what was tried, as a verb
    :param options: keyword arguments of the file system, which may hold credentials
    :raises NotFound: if the place is not there
    :raises StoreFailed: for every other failure of the back end
    """
    try:
        yield
    except ArtifactError:
        raise
    except ImportError as error:
        raise StoreFailed(f"{where} needs a package that is not installed: {error}") from error
    except FileNotFoundError as error:
        raise NotFound(
            f"cannot {action} {where}: it is not there; if nothing of this store is, check that the bucket exists"
        ) from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        text = said
        for value in _secrets(options):
            text = text.replace(value, "***")
        # A traceback prints the cause as well.
        raise StoreFailed(f"cannot {action} {where}: {text[:500]}; {_remedy(error)}") from (
            error if text == said else None
        )


def _of_fsspec(protocol: str, options: Mapping[str, Any]) -> Any:
    import fsspec

    return fsspec.filesystem(protocol, **{"use_listings_cache": False, **options})


def _secrets(options: Any, name: str = "") -> Iterator[str]:
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield from _secrets(value, str(key))
    elif isinstance(options, str) and len(options) > 3 and _SECRET_OPTION.search(name):
        yield options


def _all(jobs: Iterable[partial[Any]]) -> None:
    """Do many transfers at the same time; the first failure stops those that have not begun."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="mlops-store") as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _codes(error: BaseException) -> set[str]:
    """Error codes of a failure and its causes, as botocore, gcsfs and Azure's client keep them."""
    codes: set[str] = set()
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):
            codes.add(str(response.get("Error", {}).get("Code")))
        for attribute in ("code", "error_code", "status_code"):
            codes.add(str(getattr(link, attribute, "")))
        link = link.__cause__
    return codes


def _remedy(error: BaseException) -> str:
    codes = _codes(error)
    denied = isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError"
    if denied or codes & {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
        return (
            "give credentials that may read, write and list there "
            "([mlops] store_conn_id or storage_options, or the environment of the worker)"
        )
    if "NoSuchBucket" in codes:
        return "create the bucket, or name another one ([mlops] store)"
    return "check that the worker reaches the endpoint ([mlops] store and storage_options, or the connection of store_conn_id)"
