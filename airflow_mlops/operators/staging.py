# SPDX-License-Identifier: Apache-2.0
"""Stage in: put what a program reads where it will look for it, whatever store it comes from."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airflow_mlops.artifacts import Artifact, ArtifactError, source_for, unpack_source
from airflow_mlops.operators.failures import BadStep, PolicyViolation
from airflow_mlops.operators.verification import verify

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.resolve import ResolvedInputs
    from airflow_mlops.operators.settings import Settings


OPEN_TO_ALL = 0o777
"""For folders that a program writes to, when nobody here knows its uid."""


def stage(operator: StepOperator, attempt: Attempt, inputs: ResolvedInputs) -> None:
    """
    Bring a step's inputs, source and checkpoint to the worker, and make the folders of outputs that name a file. Files of a local store are
    not copied.

    :raises ArtifactError: if something cannot be read, or is not what its digest says
    """
    for name, output in operator.outputs.items():
        if output.file:
            (attempt.outputs / name).mkdir(exist_ok=True)
    for name, artifact in inputs.artifacts.items():
        if name not in inputs.unstaged:
            relative = f"{name}/{artifact.file}" if artifact.file else name
            attempt.staged[relative] = local_copy(artifact, attempt)
    if (found := stage_source(operator, attempt)) is not None:
        unpack_source(found, attempt.source)
    if operator.checkpoint:
        _stage_checkpoint(attempt)


def local_copy(artifact: Artifact, attempt: Attempt) -> Path:
    """
    An artifact as a file or folder of the worker; one of a local store where it lies.

    :raises ArtifactError: if it cannot be had, or is not what was committed
    """
    store = attempt.store
    if store.contains(artifact.uri):
        key = store.key(artifact.uri)
        local = store.local_path(key)
        if local is not None:
            if not local.exists():
                raise ArtifactError(
                    f"{artifact.uri} is gone from the store; clear the step that made it to make it again"
                )
            verify(artifact, local, attempt.settings.verify, store)
            return local
        return _fetched(store, key, artifact, attempt)
    path = imported_file(artifact.uri)
    if path is not None:
        check_host_path(path, attempt.settings)
        if not path.exists():
            raise ArtifactError(
                f"{artifact.uri} does not exist on this worker; expected the file or folder that was imported"
            )
        verify(artifact, path, attempt.settings.verify, store)
        return path
    parent, _, key = artifact.uri.rstrip("/").rpartition("/")
    return _fetched(attempt.settings.open_url(parent), key, artifact, attempt)


def _fetched(store: Store, key: str, artifact: Artifact, attempt: Attempt) -> Path:
    """Download an artifact and check that it is the one that was committed."""
    folder = attempt.workspace / "fetched"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / artifact.name
    number = 0
    while target.exists():
        number += 1
        target = folder / f"{artifact.name}-{number}"
    store.download(key, target)
    verify(artifact, target, attempt.settings.verify, store)
    return target


def imported_file(uri: str) -> Path | None:
    """The path of data that lies on the worker; ``None`` for any other URI."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def check_host_path(path: Path, settings: Settings) -> None:
    """
    Refuse a folder of the worker that this deployment does not open to steps. Symbolic links are followed first.

    :raises PolicyViolation: naming the setting that would allow it
    """
    real = path.resolve()
    for allowed in settings.allowed_volumes:
        if real.is_relative_to(Path(allowed).resolve()):
            return
    raise PolicyViolation(
        f"{path} is a path of the worker that steps may not use; "
        f"allow its folder with [mlops] allowed_volumes (now: {', '.join(settings.allowed_volumes) or 'none'})"
    )


def stage_source(operator: StepOperator, attempt: Attempt) -> bytes | None:
    """
    Put a step's code into the store, unless another step of the run has.

    :return: the packed code; ``None`` if there is none
    :raises BadStep: if its folder is not there
    """
    if operator.source is None:
        return None
    folder = Path(operator.source)
    if not folder.is_dir():
        raise BadStep(f"source folder {folder} does not exist on this worker")
    # The first try after a clear packs anew: who mends the code and clears the step wants the new code to run.
    found = source_for(attempt.store, attempt.identity.place, folder, fresh=attempt.identity.begins_anew)
    if found.changed:
        operator.log.info("Step code changed since the run began: %s", ", ".join(found.changed))
    attempt.source_digest = found.digest
    return found.data


def recall(operator: StepOperator, attempt: Attempt, inputs: ResolvedInputs) -> None:
    """Know of an attempt that runs already what :func:`stage` would have brought; nothing of it is touched."""
    for name, artifact in inputs.artifacts.items():
        if name not in inputs.unstaged:
            attempt.staged[f"{name}/{artifact.file}" if artifact.file else name] = Path()
    recall_source(operator, attempt)
    if operator.checkpoint:
        local = attempt.store.local_path(attempt.identity.place.checkpoint_key)
        attempt.checkpoint = local or attempt.workspace / "checkpoint"
        attempt.checkpoint.mkdir(parents=True, exist_ok=True)


def recall_source(operator: StepOperator, attempt: Attempt) -> None:
    """Know which code a step of this run has."""
    if operator.source is not None:
        found = source_for(attempt.store, attempt.identity.place, Path(operator.source), fresh=False)
        attempt.source_digest = found.digest


def _stage_checkpoint(attempt: Attempt) -> None:
    """The checkpoint folder of the generation: in the store itself where that is a folder, else fetched, and put back afterwards."""
    attempt.checkpoint = attempt.store.local_path(attempt.identity.place.checkpoint_key)
    if attempt.checkpoint is None:
        fetch_checkpoint(attempt)
    else:
        attempt.checkpoint.mkdir(parents=True, exist_ok=True)


def fetch_checkpoint(attempt: Attempt) -> None:
    """A copy of the generation's checkpoint folder, as it is now."""
    key = attempt.identity.place.checkpoint_key
    attempt.checkpoint = attempt.workspace / "checkpoint"
    if attempt.store.exists(key):
        attempt.store.download(key, attempt.checkpoint)
    attempt.checkpoint.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def replaced_checkpoint(attempt: Attempt) -> Iterator[Path]:
    """
    An empty folder that takes the place of the checkpoint when it has been filled. What was there before is kept until then.

    :return: the folder to fill
    """
    current = attempt.checkpoint
    assert current is not None  # noqa: S101 - asked for only where a step has a checkpoint
    fresh, before = (current.with_name(f"checkpoint-{attempt.id}-{what}") for what in ("new", "old"))
    fresh.mkdir()
    try:
        yield fresh
        current.rename(before)
        fresh.rename(current)
    finally:
        for folder in (fresh, before):
            shutil.rmtree(folder, ignore_errors=True)


def keep_checkpoint(attempt: Attempt) -> None:
    """Put the checkpoint back into a store that is not a folder."""
    if attempt.checkpoint is None or attempt.store.local_path(attempt.identity.place.checkpoint_key) is not None:
        return
    if any(attempt.checkpoint.iterdir()):
        attempt.store.upload(attempt.checkpoint, attempt.identity.place.checkpoint_key)


def link_inputs(attempt: Attempt) -> None:
    """Show the staged inputs under the contract's names, for a program that sees the worker's files."""
    for relative, target in attempt.staged.items():
        link = attempt.inputs_folder / relative
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def write_secrets(attempt: Attempt, folder: Path) -> None:
    """Write the secrets that are given as files, readable by their owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, value in attempt.secret_files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(value, encoding="utf-8")
        path.chmod(0o400)
