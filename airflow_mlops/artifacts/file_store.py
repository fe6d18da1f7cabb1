# SPDX-License-Identifier: Apache-2.0
"""
A store in a folder of this machine, or one that is mounted on it: the commit is a hard link, which the file system
makes for one writer only.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import DocumentInvalid, NotFound, ReferenceRefused, StoreFailed
from airflow_mlops.artifacts.scan import scan
from airflow_mlops.artifacts.store import Store, check_key

if TYPE_CHECKING:
    from airflow_mlops.artifacts.digests import Digested

_TEMPORARY = ".put-"
_DELETE_TRIES = 10
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileStore(Store):
    """
    A folder as a store.

    :param root: absolute path
    """

    def __init__(self, root: str) -> None:
        super().__init__(f"file://{root}")
        self.root = Path(root)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root)

    def local_path(self, key: str) -> Path:
        path = self.root / check_key(key)
        # The folder itself may be reached over a link; what is in it may not lead out.
        real = os.path.realpath(path)
        if not real.startswith(self._real_root.rstrip("/") + "/"):
            raise ReferenceRefused(f"{self.uri(key)} is a link that leads out of the store, to {real}; remove it")
        return path

    def put_if_absent(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        path = self.local_path(key)
        with self._failing("write", key):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
            try:
                _write(temporary, data, durable)
                os.link(temporary, path, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NO_LINKS and temporary.exists():
                    raise StoreFailed(
                        f"the file system under {self.url} makes no hard links ({error.strerror}), and without them "
                        "a commit is not safe; "
                        "put the store on another file system or in an object store ([mlops] store)"
                    ) from error
                raise
            finally:
                temporary.unlink(missing_ok=True)
            if durable:
                self._sync_above(path)
        return True

    def _sync_above(self, path: Path) -> None:
        """The folders, too: they may be new, or made by a writer that did not wait for the disk."""
        for folder in path.parents:
            _sync_folder(folder)
            if folder == self.root:
                break

    def read(self, key: str, limit: int) -> bytes:
        path = self.local_path(key)
        with self._failing("read", key), open(os.open(path, _READ_FLAGS), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StoreFailed(f"{self.uri(key)} is not a file; expected a document")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise DocumentInvalid(
                f"{self.uri(key)} is larger than the {limit} bytes that a document of its kind may have"
            )
        return data

    def exists(self, key: str) -> bool:
        path = self.local_path(key)
        with self._failing("read", key):
            return path.exists()

    def list(self, prefix: str) -> list[str]:
        path = self.local_path(prefix)
        with self._failing("list", prefix):
            try:
                names = os.listdir(path)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [f"{prefix}/{name}" for name in sorted(names) if not name.startswith(_TEMPORARY)]

    def delete_tree(self, key: str) -> None:
        path = self.root / check_key(key)
        # A link is deleted itself, wherever it leads; the folder it lies in must be ours.
        if path.parent != self.root:
            self.local_path(str(Path(key).parent))
        with self._failing("delete", key):
            for tries_left in reversed(range(_DELETE_TRIES)):
                try:
                    return remove_tree(path)
                except OSError as error:
                    # Others delete it as well, or somebody still writes to it.
                    if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or not tries_left:
                        raise

    def upload(self, local: Path, key: str) -> None:
        target = self.local_path(key)
        with self._failing("write", key):
            _copy(local, target)

    def download(self, key: str, local: Path) -> None:
        source = self.local_path(key)
        with self._failing("read", key):
            _copy(source, local)

    def copy(self, source: str, target: str) -> None:
        origin, path = self.local_path(source), self.local_path(target)
        temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            with self._failing("copy", source):
                if path.exists():
                    raise StoreFailed(f"{self.uri(target)} is taken; expected a place where nothing is yet")
                path.parent.mkdir(parents=True, exist_ok=True)
                _copy(origin, temporary)
                if not temporary.exists():
                    raise NotFound(f"{self.uri(source)} is an empty folder; expected at least one file in it")
                for folder, _, _ in os.walk(temporary):
                    _sync_folder(Path(folder))
                temporary.rename(path)
                self._sync_above(path)
        finally:
            # What went wrong says more than that its remains cannot be removed.
            with suppress(OSError):
                remove_tree(temporary)

    def digest(self, key: str) -> Digested:
        # Not with the module: most tasks' store is asked for documents alone.
        from airflow_mlops.artifacts.digests import digest_path

        path = self.local_path(key)
        with self._failing("read", key):
            return digest_path(path)

    @contextmanager
    def _failing(self, action: str, key: str) -> Iterator[None]:
        """Turn what the file system says into words that name the store."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(
                f"{self.uri(key)} is not there; expected a file or folder in the store {self.url}"
            ) from error
        except OSError as error:
            raise StoreFailed(
                f"cannot {action} {self.uri(key)}: {error.strerror or error}; {_remedy(error)}"
            ) from error


def remove_tree(path: Path) -> None:
    """
    Remove a file or folder, also one whose folders nobody may write to.

    :raises OSError: if something in it is another user's
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        for folder, _, _ in os.walk(path):
            mode = os.lstat(folder).st_mode
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(folder, stat.S_IMODE(mode) | stat.S_IRWXU)
        shutil.rmtree(path)
    except RecursionError:
        _remove_deep(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _remove_deep(path)


def _remove_deep(path: Path) -> None:
    """Remove a tree that is deeper than paths are long, as the system's own tool can."""
    import subprocess

    removed = subprocess.run(["rm", "-rf", "--", path], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if removed.returncode:
        raise OSError(errno.EIO, removed.stderr[-300:].strip(), str(path))


def protect(path: Path) -> None:
    """
    Take the right to write from a file or folder and everything in it (0444, folders 0555). What belongs to another
    user stays as it is.

    :raises OSError: if it cannot be read
    """
    if path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path, topdown=False):
            for name in names:
                _set_mode(os.path.join(folder, name), 0o444)
            _set_mode(folder, 0o555)
    else:
        _set_mode(os.fspath(path), 0o444)


def _set_mode(path: str, mode: int) -> None:
    if os.path.islink(path):
        return
    try:
        os.chmod(path, mode)
    except PermissionError:
        # A container that ran as another user left it; the digest tells if it changes.
        return


def _write(path: Path, data: bytes, durable: bool) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder of files; the kernel shares the blocks where it can."""
    for item in scan(source):
        destination = target / item.name if item.name else target
        destination.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(item.path, _READ_FLAGS), "rb") as reader, open(destination, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        copied = destination.stat().st_size
        if copied != item.size:
            raise StoreFailed(
                f"{destination} has {copied} bytes after copying {item.path}, which had {item.size}; it was changed "
                "meanwhile, try again"
            )


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space, or put the store elsewhere ([mlops] store)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"let the user with uid {os.geteuid()} read and write there, or put the store elsewhere ([mlops] store)"
    return "check that the folder is mounted and healthy"
