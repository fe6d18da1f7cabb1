# SPDX-License-Identifier: Apache-2.0
"""Collect what a program wrote, commit it, and make the reference that the next steps read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import Artifact, Manifest, Seal, collect, commit, protect, seal_outputs

if TYPE_CHECKING:
    from airflow_mlops.artifacts.digests import Digested
    from airflow_mlops.artifacts.outputs import Collected
    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.spec.parts import Output


def commit_outputs(
    declared: Mapping[str, Output],
    attempt: Attempt,
    seal: Seal,
    ended: Ended,
    *,
    kind: str,
    started: float,
    log: Any,
) -> dict[str, Any]:
    """
    Check, digest, store and commit an attempt's outputs.

    :param started: when the try began, seconds since the epoch
    :return: the reference, as XCom keeps it
    :raises OutputError: if an output is missing or wrong
    :raises AlreadyCommitted: if another attempt of this generation was first
    """
    ended_at = time.time()
    collected = ended.collected or collect(attempt.outputs, declared)
    if ended.collected is None:
        _store(collected, declared, attempt)
    artifacts = {
        name: _artifact(name, declared[name], digested, collected.metrics.get(name, {}), attempt)
        for name, digested in collected.artifacts.items()
    }
    seal_outputs(attempt.store, attempt.key, collected)
    reference = _commit(
        attempt,
        seal,
        kind=kind,
        artifacts=artifacts,
        parameters=collected.parameters,
        metrics=collected.metrics,
        runtime=ended.facts,
        timings={"started": started, "ended": ended_at, "hash_seconds": collected.hash_seconds},
    )
    local = attempt.store.local_path(attempt.key)
    if local is not None:
        protect(local / "outputs")
    for name, artifact in artifacts.items():
        log.info("Committed %s: %s, %s bytes, %s", name, artifact.type, artifact.size, artifact.uri)
    return reference


def commit_references(
    attempt: Attempt,
    seal: Seal,
    artifacts: Mapping[str, Artifact],
    parameters: Mapping[str, Any],
    *,
    kind: str,
    started: float,
) -> dict[str, Any]:
    """
    Commit what a step without a program hands on. Metrics are told by their artifacts, which are those of another step.

    :return: the reference, as XCom keeps it
    :raises AlreadyCommitted: if another attempt of this generation was first
    """
    return _commit(
        attempt,
        seal,
        kind=kind,
        artifacts=artifacts,
        parameters=parameters,
        metrics={
            name: dict(item.metadata) for name, item in artifacts.items() if item.type == "metrics" and item.metadata
        },
        runtime={},
        timings={"started": started, "ended": time.time()},
    )


def _commit(
    attempt: Attempt,
    seal: Seal,
    *,
    kind: str,
    artifacts: Mapping[str, Artifact],
    parameters: Mapping[str, Any],
    metrics: Mapping[str, Any],
    runtime: Mapping[str, Any],
    timings: Mapping[str, float],
) -> dict[str, Any]:
    place = attempt.identity.place
    manifest = Manifest.of(
        place,
        attempt=attempt.id,
        try_number=attempt.identity.try_number,
        seal=seal,
        kind=kind,
        artifacts=dict(artifacts),
        parameters=dict(parameters),
        metrics=dict(metrics),
        runtime=dict(runtime),
        timings={name: round(value, 3) for name, value in timings.items()},
    )
    return commit(attempt.store, place, manifest).to_json()


def _store(collected: Collected, declared: Mapping[str, Output], attempt: Attempt) -> None:
    """Bring artifacts into a store that the program did not write to itself."""
    for name in collected.artifacts:
        relative = _relative(name, declared[name])
        key = f"{attempt.key}/outputs/{relative}"
        if attempt.store.local_path(key) is None:
            attempt.store.upload(attempt.outputs / relative, key)


def _relative(name: str, output: Output) -> str:
    return f"{name}/{output.file}" if output.file else name


def _artifact(name: str, output: Output, digested: Digested, metadata: Mapping[str, Any], attempt: Attempt) -> Artifact:
    return Artifact(
        name=name,
        type=output.type,
        uri=attempt.store.uri(f"{attempt.key}/outputs/{_relative(name, output)}"),
        digest=digested.digest,
        size=digested.size,
        is_tree=digested.is_tree,
        file=output.file,
        metadata=dict(metadata),
    )
