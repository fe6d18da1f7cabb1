# SPDX-License-Identifier: Apache-2.0
"""An attempt: one program started for one try of a step, with its folder in the store and its scratch space on the worker."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.file_store import remove_tree
from airflow_mlops.operators.logs import hidden

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from airflow_mlops.artifacts.outputs import Collected
    from airflow_mlops.operators.identity import TaskIdentity
    from airflow_mlops.operators.program import Invocation
    from airflow_mlops.operators.resolve import ResolvedInputs
    from airflow_mlops.operators.settings import Settings
    from airflow_mlops.operators.tracking import Tracked

OWNER = "attempt.json"
"""In a scratch folder: whose it is, as the labels of a container say it."""


@dataclass(slots=True)
class Attempt:
    """
    What a runtime needs to run a program.

    :param inputs: the resolved inputs
    :param workspace: scratch folder of the attempt on the worker; gone when the attempt is over
    :param outputs: folder that the program's outputs go to
    :param staged: where each artifact input lies on the worker: the path within the contract's ``inputs`` folder, and the file or folder
    :param sealed: its seal as it is written; ``None`` if this process did not write it
    :param secret_files: values of the secrets that are given as files
    :param tracked: what the program is given so that it tracks where its step does
    :param adopted: whether an earlier try started it
    :param parent: process id of the supervisor; another one later means that it has died
    """

    id: str
    identity: TaskIdentity
    store: Store
    settings: Settings
    workspace: Path
    outputs: Path
    staged: dict[str, Path] = field(default_factory=dict)
    secret_files: dict[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None
    source_digest: str | None = None
    inputs: ResolvedInputs | None = None
    invocation: Invocation | None = None
    tracked: Tracked | None = None
    sealed: bytes | None = None
    adopted: bool = False
    parent: int = field(default_factory=os.getppid)

    @classmethod
    def plan(cls, identity: TaskIdentity, store: Store, settings: Settings, attempt_id: str) -> Attempt:
        """Decide an attempt's paths; :meth:`make` makes the folders."""
        parent = settings.work_dir or Path(tempfile.gettempdir())
        workspace = parent / f"mlops-{attempt_id}"
        attempt = cls(attempt_id, identity, store, settings, workspace, outputs=workspace / "outputs")
        attempt.move(identity)
        return attempt

    def become(self, attempt_id: str, *, adopted: bool) -> None:
        """Be another attempt of the same task: what was decided for this one is forgotten."""
        self.id, self.adopted = attempt_id, adopted
        self.workspace = self.workspace.with_name(f"mlops-{attempt_id}")
        self.staged, self.checkpoint, self.source_digest, self.invocation = {}, None, None, None
        self.move(self.identity)

    def move(self, identity: TaskIdentity) -> None:
        """Go to another place of the store. Nothing may have been made yet."""
        self.identity = identity
        in_store = self.store.local_path(self.key)
        self.outputs = (in_store or self.workspace) / "outputs"

    def make(self) -> None:
        """Make the folders. Where the store is a folder, the program writes its outputs straight into it."""
        self.workspace.parent.mkdir(parents=True, exist_ok=True)
        self.workspace.mkdir(mode=0o700, exist_ok=self.adopted)
        (self.workspace / OWNER).write_text(json.dumps(self.identity.labels(self.id)), encoding="utf-8")
        for folder in (self.outputs, self.inputs_folder, self.tmp, self.source):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def resolved(self) -> ResolvedInputs:
        """The inputs, of an attempt that has come to them."""
        assert self.inputs is not None  # noqa: S101 - resolved before anything that asks for them is begun
        return self.inputs

    @property
    def key(self) -> str:
        """The attempt's folder in the store."""
        return self.identity.place.attempt_key(self.id)

    @property
    def step_json(self) -> Path:
        """The worker's copy of the seal, for the program to read."""
        return self.workspace / "step.json"

    @property
    def source(self) -> Path:
        return self.workspace / "source"

    @property
    def has_source(self) -> bool:
        return self.source_digest is not None

    @property
    def inputs_folder(self) -> Path:
        return self.workspace / "inputs"

    @property
    def tmp(self) -> Path:
        return self.workspace / "tmp"

    @property
    def secret_values(self) -> list[str]:
        """What no log may show: each secret, and each line of those that have several; the longest first."""
        secrets = [
            *self.secret_files.values(),
            *(self.invocation.secret_environment.values() if self.invocation else ()),
        ]
        return hidden(secrets)

    def close(self) -> None:
        """Remove the scratch folder."""
        remove_tree(self.workspace)

    def discard(self) -> None:
        """Remove what an attempt without a commit left in the store."""
        self.store.delete_tree(self.key)


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How a program ended, as the runtime's own record tells it.

    :param exit_code: the program's exit code; negative for a signal that ended a process
    :param out_of_memory: whether the memory limit killed it
    :param facts: what the manifest keeps of it, such as the image's id
    :param peak_memory: bytes, where the runtime knows
    :param collected: its outputs, where they are in the store already
    """

    exit_code: int
    out_of_memory: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    peak_memory: int | None = None
    collected: Collected | None = None
