# SPDX-License-Identifier: Apache-2.0
"""
Commit: the one moment at which a step gets outputs.

A generation's manifest is put if absent. Until then the step has none; afterwards they never change. The reference that travels on holds the
manifest's URI and its sha256, so nobody has to look for "the latest".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.artifacts.artifact import Artifact
from airflow_mlops.artifacts.errors import AlreadyCommitted, DocumentInvalid, ReferenceRefused
from airflow_mlops.artifacts.layout import OUTPUTS_SEAL, Place
from airflow_mlops.artifacts.manifest import Manifest, OutputFile, OutputsSeal
from airflow_mlops.artifacts.outputs import Collected
from airflow_mlops.artifacts.store import Store

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CLAIM = re.compile(r"claim-([0-9]{1,9})\.json\Z")
_CLAIM_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class StepReference:
    """
    What a step hands on in XCom.

    :param manifest: URI of the manifest
    :param sha256: of the manifest, hexadecimal
    :param artifacts: artifacts by name
    :param parameters: parameter outputs by name
    :param metrics: scalars of the metrics outputs
    """

    manifest: str
    sha256: str
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that :meth:`from_json` takes."""
        return {
            "version": 1,
            "manifest": self.manifest,
            "sha256": self.sha256,
            "artifacts": {name: artifact.to_json() for name, artifact in self.artifacts.items()},
            "parameters": dict(self.parameters),
            "metrics": {name: dict(values) for name, values in self.metrics.items()},
        }

    @classmethod
    def from_json(cls, document: Any) -> StepReference:
        """
        Read a reference that came by XCom.

        :raises ReferenceRefused: if it is not one, or of a version that this package does not know
        """
        if not isinstance(document, Mapping) or document.get("version") != 1:
            raise ReferenceRefused("it is not the result of a step of airflow_mlops (or of a newer version); expected version 1")
        manifest, sha256 = document.get("manifest"), document.get("sha256")
        if not isinstance(manifest, str) or not isinstance(sha256, str) or not _SHA256.match(sha256):
            raise ReferenceRefused("it names no manifest with its sha256")
        artifacts, parameters, metrics = (document.get(name, {}) for name in ("artifacts", "parameters", "metrics"))
        if not all(isinstance(value, Mapping) for value in (artifacts, parameters, metrics)):
            raise ReferenceRefused("its artifacts, parameters or metrics are no objects")
        return cls(
            manifest,
            sha256,
            {str(name): Artifact.from_json(value) for name, value in artifacts.items()},
            dict(parameters),
            dict(metrics),
        )

    @classmethod
    def to(cls, uri: str, manifest: Manifest) -> StepReference:
        """The reference to a manifest."""
        return cls(
            uri,
            manifest.sha256,
            {name: manifest.artifact(name) for name in manifest.artifacts},
            dict(manifest.parameters),
            {name: dict(values) for name, values in manifest.metrics.items()},
        )


def commit(store: Store, place: Place, manifest: Manifest) -> StepReference:
    """
    Commit a generation.

    :return: the reference to hand on
    :raises AlreadyCommitted: if another attempt of the generation was first
    """
    if not store.put_if_absent(place.manifest_key, manifest.to_bytes()):
        winner = Manifest.from_bytes(store.read(place.manifest_key, Manifest.limit))
        if winner.attempt != manifest.attempt:
            raise AlreadyCommitted(
                f"attempt {winner.attempt} has committed generation {place.generation} of '{place.step}' before attempt "
                f"{manifest.attempt}; what this attempt made does not count",
                winner,
            )
        manifest = winner
    return StepReference.to(store.uri(place.manifest_key), manifest)


def read_committed(store: Store, reference: StepReference) -> Manifest:
    """
    Read the manifest that a reference means, and make sure that it is the one.

    :raises ReferenceRefused: if it lies outside the store, was changed, or does not say what the reference says
    :raises NotFound: if it is gone
    """
    data = store.read(store.key(reference.manifest), Manifest.limit)
    found = hashlib.sha256(data).hexdigest()
    if found != reference.sha256:
        raise ReferenceRefused(f"{reference.manifest} has sha256 {found}, but {reference.sha256} was committed: it was changed since")
    manifest = Manifest.from_bytes(data)
    for name, artifact in reference.artifacts.items():
        if name not in manifest.artifacts or manifest.artifact(name) != artifact:
            raise ReferenceRefused(f"{reference.manifest} holds no such artifact '{name}' as the reference claims")
    if dict(reference.parameters) != manifest.parameters:
        raise ReferenceRefused(f"{reference.manifest} holds other parameters than the reference claims")
    return manifest


def seal_outputs(store: Store, attempt_key: str, collected: Collected) -> None:
    """Put ``outputs.json``: every file that an attempt left behind."""
    seal = OutputsSeal(
        outputs={
            name: [OutputFile(path=file.name, size=file.size, sha256=file.sha256) for file in digested.files]
            for name, digested in collected.artifacts.items()
        }
    )
    store.put_if_absent(f"{attempt_key}/{OUTPUTS_SEAL}", seal.to_bytes())


def protect(path: Path) -> None:
    """Make a committed file or folder read-only, as far as its owner can; the superuser may still write."""
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            _chmod(os.path.join(folder, name), 0o444)
        for name in folders:
            _chmod(os.path.join(folder, name), 0o555)
    _chmod(os.fspath(path), 0o555 if path.is_dir() else 0o444)


def _chmod(path: str, mode: int) -> None:
    try:
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, mode)
    except PermissionError:
        # Written by another user inside the container: only that user may do it. The digests still tell a change.
        return


def claim(store: Store, place: Place, try_number: int, owner: str) -> bool:
    """
    Claim a generation for a try.

    :param owner: Airflow's id of the try
    :return: whether the claim is this owner's; ``False`` if another process has the same try's
    """
    key = place.claim_key(try_number)
    data = json.dumps({"version": 1, "try": try_number, "owner": owner}, sort_keys=True).encode()
    return store.put_if_absent(key, data) or store.read(key, _CLAIM_LIMIT) == data


def owner(store: Store, place: Place) -> tuple[int, str] | None:
    """
    Who owns a generation: the try with the highest claim, and its owner.

    :raises DocumentInvalid: if the claim cannot be read
    """
    tries = [int(found[1]) for key in store.list(place.generation_key) if (found := _CLAIM.search(key.rsplit("/", 1)[-1]))]
    if not tries:
        return None
    try:
        document = json.loads(store.read(place.claim_key(max(tries)), _CLAIM_LIMIT))
        return max(tries), str(document["owner"])
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentInvalid(f"{store.uri(place.claim_key(max(tries)))} is no claim: {error}") from error
