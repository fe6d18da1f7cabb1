# SPDX-License-Identifier: Apache-2.0
"""Where a model comes from, as its version keeps it: the step that made it, what from, with which code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import ArtifactError, Manifest, Seal
from airflow_mlops.operators.git_commit import commit_of
from airflow_mlops.registry import Facts, Origin

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Place, Store
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.register import RegisterOperator

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def facts_of(
    operator: RegisterOperator, artifact: Artifact, measured: Mapping[str, float], attempt: Attempt, context: Any
) -> Facts:
    """
    What is known of a model.

    :param measured: its metrics
    """
    made = _made_by(artifact, attempt.store)
    manifest, seal = made if made is not None else (None, None)
    digests = {name: item.digest for name, item in seal.step.inputs.items()} if seal is not None else {}
    return Facts(
        metrics=dict(measured),
        origin=_origin(manifest, attempt.store) if manifest is not None else None,
        git_commit=_git_commit(operator, context),
        inputs=digests,
        source=seal.step.source if seal is not None else None,
        description=operator.description,
    )


def _origin(manifest: Manifest, store: Store) -> Origin:
    return Origin(
        instance=manifest.instance,
        pipeline=manifest.pipeline,
        run=manifest.run,
        step=manifest.step,
        iteration=manifest.iteration,
        generation=manifest.generation,
        try_=manifest.try_,
        attempt=manifest.attempt,
        manifest=store.uri(manifest.place.manifest_key),
        sha256=manifest.sha256,
    )


def _made_by(artifact: Artifact, store: Store) -> tuple[Manifest, Seal | None] | None:
    """
    What the step that made an artifact committed, and its seal: by where the artifact lies, since others may have handed it on. ``None`` if no
    step of this store made it.
    """
    if not store.contains(artifact.uri):
        return None
    parts = store.key(artifact.uri).split("/")
    if len(parts) < 8 or parts[7] != "outputs":
        return None
    key = "/".join([*parts[:6], "manifest.json"])
    try:
        manifest = Manifest.from_bytes(store.read(key, Manifest.limit))
        place = manifest.place
        if place.manifest_key != key or all(item.uri != artifact.uri for item in manifest.artifacts.values()):
            return None
        return manifest, _seal(manifest, place, store)
    except ArtifactError:
        return None


def _seal(manifest: Manifest, place: Place, store: Store) -> Seal | None:
    try:
        seal = Seal.from_bytes(store.read(place.step_json_key(manifest.attempt), Seal.limit))
    except ArtifactError:
        return None
    return seal if seal.sha256 == manifest.seal else None


def _git_commit(operator: RegisterOperator, context: Any) -> str | None:
    """The commit of the DAG's bundle, where that is one of git; else of the checkout that the DAG file is in."""
    version = getattr(context["dag_run"], "bundle_version", None)
    if isinstance(version, str) and _COMMIT.fullmatch(version):
        return version
    file = getattr(operator.dag, "fileloc", None)
    return commit_of(Path(file)) if file else None
