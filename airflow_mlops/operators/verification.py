# SPDX-License-Identifier: Apache-2.0
"""Whether an artifact is still what was committed, asked before a step reads it: somebody may have changed or truncated its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts import Artifact, ArtifactError, digest_path
from airflow_mlops.artifacts.layout import OUTPUTS_SEAL
from airflow_mlops.artifacts.manifest import OutputsSeal
from airflow_mlops.artifacts.scan import scan

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from airflow_mlops.operators.settings import Verify

READ_UP_TO = 10**9
"""Bytes of an artifact that ``auto`` reads once more; of a larger one it compares the size."""


def verify(artifact: Artifact, path: Path, how: Verify, store: Store) -> None:
    """
    Compare an artifact with what was committed.

    :param path: the file or folder
    :param how: ``always`` reads it all, ``size`` looks at sizes alone, ``never`` does nothing; ``auto`` is ``always`` up to a size
    :param store: where a list of its files may be
    :raises ArtifactError: if it is another one, naming the file where that can be told
    """
    if how == "never" or not artifact.digest.startswith("sha256"):
        return
    size = sum(found.size for found in scan(path))
    if artifact.size is not None and size != artifact.size:
        raise ArtifactError(
            f"{_culprit(artifact, path, store)} was changed after its commit: {artifact.uri} has {size} bytes, and {artifact.size} were committed; "
            "clear the step that made it to make it again"
        )
    if how == "size" or (how == "auto" and size > READ_UP_TO):
        return
    found = digest_path(path).digest
    if found != artifact.digest:
        raise ArtifactError(
            f"{_culprit(artifact, path, store)} was changed after its commit: {artifact.uri} has digest {found}, and {artifact.digest} was "
            "committed; clear the step that made it to make it again"
        )


def _culprit(artifact: Artifact, path: Path, store: Store) -> str:
    """The file that differs, as the seal of the artifact's attempt tells; the artifact itself if that is gone, too."""
    try:
        attempt, _, _ = store.key(artifact.uri).partition("/outputs/")
        seal = OutputsSeal.from_bytes(store.read(f"{attempt}/{OUTPUTS_SEAL}", OutputsSeal.limit))
        sealed = {file.path: file.sha256 for file in seal.outputs[artifact.name]}
        there = {file.name: file.sha256 for file in digest_path(path).files}
    except (ArtifactError, OSError, KeyError):
        return str(path)
    changed = sorted(name for name in sealed.keys() | there.keys() if sealed.get(name) != there.get(name))
    return str(path / changed[0]) if path.is_dir() and changed else str(path)
