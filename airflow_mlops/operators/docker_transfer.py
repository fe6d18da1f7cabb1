# SPDX-License-Identifier: Apache-2.0
"""
How files get into a container and out of it: bind mounts where the daemon sees the worker's files, else a volume, streamed.

Which of the two holds is found out by trying: the daemon refuses a bind whose source does not exist, and the source carries the attempt's
random id, so that a folder of the same name on another machine is not taken for ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from docker.types import Mount

from airflow_mlops.artifacts import ArchiveItem, archive, extract
from airflow_mlops.artifacts.file_store import remove_tree
from airflow_mlops.operators import scratch, staging
from airflow_mlops.operators.contract import CONTAINER_ROOT
from airflow_mlops.operators.failures import PolicyViolation
from airflow_mlops.operators.identity import LABEL

if TYPE_CHECKING:
    from docker import APIClient

    from airflow_mlops.operators.attempt import Attempt

Owner = tuple[int, int] | None
"""uid and gid that the program runs as; ``None`` if only the image knows."""


class Transfer(Protocol):
    """One way for files into a container and out of it."""

    def prepare(self, cli: APIClient) -> list[Mount]:
        """Make what the container is created with."""

    def before_start(self, cli: APIClient, container: str) -> None:
        """Bring the inputs in."""

    def bring_outputs(self, cli: APIClient, container: str) -> None:
        """Bring the outputs out, once the program has ended."""

    def bring_checkpoint(self, cli: APIClient, container: str) -> None:
        """Bring the checkpoint out, however the program has ended."""

    def close(self, cli: APIClient) -> None:
        """Remove what :meth:`prepare` made. May be called for a container that was never created."""


class BindTransfer:
    """Nothing is copied: the program reads and writes the worker's files."""

    def __init__(self, attempt: Attempt, owner: Owner) -> None:
        self._attempt = attempt
        self._owner = owner
        self._secrets = scratch.memory_folder(attempt.workspace)

    def prepare(self, cli: APIClient) -> list[Mount]:
        attempt = self._attempt
        writable = {"outputs": attempt.outputs, "tmp": attempt.tmp}
        if attempt.has_source:
            writable["source"] = attempt.source
        if attempt.checkpoint is not None:
            writable["checkpoint"] = attempt.checkpoint
        if self._owner != (os.getuid(), os.getgid()):
            for folder in (*writable.values(), *attempt.outputs.iterdir()):
                folder.chmod(staging.OPEN_TO_ALL)
        mounts = [self._mount(name, path, read_only=False) for name, path in writable.items()]
        mounts += [self._mount(f"inputs/{name}", path, read_only=True) for name, path in attempt.staged.items()]
        mounts.append(self._mount("step.json", attempt.step_json, read_only=True))
        if attempt.secret_files:
            staging.write_secrets(attempt, self._secrets)
            mounts.append(self._mount("secrets", self._secrets, read_only=True))
        return mounts

    def _mount(self, name: str, path: Path, *, read_only: bool) -> Mount:
        return Mount(
            f"{CONTAINER_ROOT}/{name}", self._attempt.settings.host_path(path), type="bind", read_only=read_only
        )

    def before_start(self, cli: APIClient, container: str) -> None:
        """Everything is there already."""

    def bring_outputs(self, cli: APIClient, container: str) -> None:
        """Everything is there already."""

    def bring_checkpoint(self, cli: APIClient, container: str) -> None:
        """Everything is there already."""

    def close(self, cli: APIClient) -> None:
        scratch.remove_secrets(self._secrets)


class VolumeTransfer:
    """A labelled volume an attempt, filled before the program starts and read when it has ended."""

    def __init__(self, attempt: Attempt, owner: Owner) -> None:
        self._attempt = attempt
        self._owner = owner
        self._volume = f"mlops-{attempt.id}"

    def prepare(self, cli: APIClient) -> list[Mount]:
        if self._attempt.secret_files:
            names = ", ".join(sorted(self._attempt.secret_files))
            raise PolicyViolation(
                f"secrets as files ({names}) need a Docker daemon that sees the worker's memory-backed folders, and this one gets its files "
                "through a volume, which is a disk; give them as environment variables (as: env), or let the daemon see /dev/shm"
            )
        cli.create_volume(
            self._volume, labels=self._attempt.identity.labels(self._attempt.id) | {f"{LABEL}.role": "files"}
        )
        return [Mount(CONTAINER_ROOT, self._volume, type="volume")]

    def before_start(self, cli: APIClient, container: str) -> None:
        cli.put_archive(container, "/", archive(self._items()))

    def _items(self) -> Iterator[ArchiveItem]:
        """The contract's folders: what is read belongs to root and may be written by nobody, what is written belongs to the program."""
        attempt, root = self._attempt, CONTAINER_ROOT.lstrip("/")
        uid, gid = self._owner or (0, 0)
        mode = 0o755 if self._owner else staging.OPEN_TO_ALL
        yield ArchiveItem(root, None, 0o755, 0, 0)
        yield ArchiveItem(f"{root}/outputs", None, mode, uid, gid)
        for folder in sorted(attempt.outputs.iterdir()):
            yield ArchiveItem(f"{root}/outputs/{folder.name}", None, mode, uid, gid)
        yield ArchiveItem(f"{root}/tmp", None, mode, uid, gid)  # noqa: S108 - in the attempt's own volume
        yield ArchiveItem(f"{root}/inputs", None, 0o755, 0, 0)
        for name, path in attempt.staged.items():
            yield ArchiveItem(f"{root}/inputs/{name}", path, 0o444, 0, 0)
        if attempt.has_source:
            yield ArchiveItem(f"{root}/source", attempt.source, mode, uid, gid)
        if attempt.checkpoint is not None:
            yield ArchiveItem(f"{root}/checkpoint", attempt.checkpoint, mode, uid, gid)
        yield ArchiveItem(f"{root}/step.json", attempt.step_json, 0o444, 0, 0)

    def bring_outputs(self, cli: APIClient, container: str) -> None:
        outputs = self._attempt.outputs
        # A transfer that was cut off, in this try or in one whose worker died, may have brought a part of them.
        remove_tree(outputs)
        outputs.mkdir()
        self._bring_out(cli, container, "outputs", outputs)

    def bring_checkpoint(self, cli: APIClient, container: str) -> None:
        if self._attempt.checkpoint is not None:
            with staging.replaced_checkpoint(self._attempt) as folder:
                self._bring_out(cli, container, "checkpoint", folder)

    def _bring_out(self, cli: APIClient, container: str, name: str, target: Path) -> None:
        chunks, _ = cli.get_archive(container, f"{CONTAINER_ROOT}/{name}")
        extract(chunks, target, strip=1)

    def close(self, cli: APIClient) -> None:
        cli.remove_volume(self._volume, force=True)
