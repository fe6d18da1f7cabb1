# SPDX-License-Identifier: Apache-2.0
"""
Commit: the one moment at which a step gets outputs.

A generation's manifest is put if absent. Until then the step has none; afterwards they never change. The reference that
travels on holds the manifest's URI and its sha256, so nobody has to look for "the latest".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.artifact import Artifact
from airflow_mlops.artifacts.errors import AlreadyCommitted, ContentRefused, NotFound, OutputInvalid, ReferenceRefused
from airflow_mlops.artifacts.layout import OUTPUTS_SEAL, Place
from airflow_mlops.artifacts.manifest import Manifest, OutputFile, OutputsSeal
from airflow_mlops.artifacts.strict_json import canonical

if TYPE_CHECKING:
    from airflow_mlops.artifacts.outputs import Collected
    from airflow_mlops.artifacts.store import Store

MAX_REFERENCE = 512 * 1024
"""Bytes of a reference as JSON: it is a row of Airflow's database, and read by every step that follows."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FIELDS = {"version", "manifest", "sha256", "artifacts", "parameters", "metrics"}


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
        if not isinstance(document, Mapping) or document.get("version") != 1 or not set(document) <= _FIELDS:
            raise ReferenceRefused(
                "it is not the result of a step of airflow_mlops (or of a newer version); expected version 1"
            )
        _check_size(document)
        manifest, sha256 = document.get("manifest"), document.get("sha256")
        if not isinstance(manifest, str) or not isinstance(sha256, str) or not _SHA256.match(sha256):
            raise ReferenceRefused("it names no manifest with its sha256")
        artifacts, parameters, metrics = (document.get(name, {}) for name in ("artifacts", "parameters", "metrics"))
        if not all(isinstance(value, Mapping) for value in (artifacts, parameters, metrics)):
            raise ReferenceRefused("its artifacts, parameters or metrics are no objects")
        if any(not isinstance(values, Mapping) for values in metrics.values()):
            raise ReferenceRefused("its metrics are no objects by output")
        return cls(
            manifest,
            sha256,
            {str(name): Artifact.from_json(value) for name, value in artifacts.items()},
            dict(parameters),
            {str(name): dict(values) for name, values in metrics.items()},
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


def _check_size(document: Mapping[str, Any]) -> None:
    try:
        size = len(canonical(dict(document)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ReferenceRefused(f"it is no JSON: {error}") from None
    if size > MAX_REFERENCE:
        raise ReferenceRefused(f"it is larger than {MAX_REFERENCE} bytes")


def commit(store: Store, place: Place, manifest: Manifest) -> StepReference:
    """
    Commit a generation. An attempt that has committed already gets the reference to what it committed then.

    :return: the reference to hand on
    :raises AlreadyCommitted: if another attempt of the generation was first
    :raises OutputInvalid: if there is more to hand on than XCom should hold
    :raises ReferenceRefused: if the manifest is another place's, or hands on what the next step would refuse
    """
    if not manifest.is_of(place):
        raise ReferenceRefused(
            f"the manifest of {manifest.step} (run {manifest.run}) cannot be committed for {place.step} (run "
            f"{place.run})"
        )
    # Before it counts: what is committed can be neither changed nor taken back.
    reference = StepReference.to(store.uri(place.manifest_key), manifest)
    size = len(canonical(reference.to_json()))
    if size > MAX_REFERENCE:
        raise OutputInvalid(
            [
                f"parameters, metrics and metadata are {size} bytes together; at most {MAX_REFERENCE} are allowed: "
                "hand them on as artifacts"
            ]
        )
    if store.put_if_absent(place.manifest_key, manifest.to_bytes()):
        return reference
    winner, reference = _committed(store, place)
    if winner.attempt != manifest.attempt:
        raise AlreadyCommitted(
            f"attempt {winner.attempt} has committed generation {place.generation} of '{place.step}' before attempt "
            f"{manifest.attempt}; what this attempt made does not count",
            winner,
        )
    return reference


def find_committed(store: Store, place: Place) -> tuple[Manifest, StepReference] | None:
    """
    What a generation committed, for a try that finds the work done; ``None`` if nothing was.

    :raises DocumentInvalid: if there is something that is no manifest
    :raises ReferenceRefused: if it is the manifest of another place
    """
    try:
        return _committed(store, place)
    except NotFound:
        return None


def _committed(store: Store, place: Place) -> tuple[Manifest, StepReference]:
    manifest = Manifest.from_bytes(store.read(place.manifest_key, Manifest.limit))
    uri = store.uri(place.manifest_key)
    if not manifest.is_of(place):
        raise ReferenceRefused(
            f"{uri} is the manifest of {manifest.step} (run {manifest.run}); expected the one of {place.step} (run "
            f"{place.run})"
        )
    return manifest, StepReference.to(uri, manifest)


def read_committed(store: Store, reference: StepReference) -> Manifest:
    """
    Read the manifest that a reference means, and make sure that it is the one.

    :raises ReferenceRefused: if it lies outside the store, was changed, or does not say what the reference says
    :raises NotFound: if it is gone
    """
    manifest = read_manifest(store, reference.manifest, reference.sha256)
    for name, artifact in reference.artifacts.items():
        if name not in manifest.artifacts or manifest.artifact(name) != artifact:
            raise ReferenceRefused(f"{reference.manifest} holds no such artifact '{name}' as the reference claims")
    if not _same(dict(reference.parameters), manifest.parameters) or not _same(
        dict(reference.metrics), manifest.metrics
    ):
        raise ReferenceRefused(f"{reference.manifest} holds other parameters or metrics than the reference claims")
    return manifest


def read_manifest(store: Store, uri: str, sha256: str) -> Manifest:
    """
    Read a manifest by its URI.

    :param sha256: of the manifest, hexadecimal
    :raises ReferenceRefused: if it lies outside the store, or was changed
    :raises NotFound: if it is gone
    """
    data = store.read(store.key(uri), Manifest.limit)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ReferenceRefused(f"{uri} has sha256 {found}, but {sha256} was committed: it was changed since")
    return Manifest.from_bytes(data)


def _same(claimed: Any, held: Any) -> bool:
    """
    Whether two JSON values are equal. Databases may write a number in another way (1e16 as an integer), but a boolean
    is none.
    """
    if isinstance(claimed, dict) and isinstance(held, dict):
        return claimed.keys() == held.keys() and all(_same(claimed[key], held[key]) for key in held)
    if isinstance(claimed, list) and isinstance(held, list):
        return len(claimed) == len(held) and all(map(_same, claimed, held))
    return bool(claimed == held) and isinstance(claimed, bool) == isinstance(held, bool)


def seal_outputs(store: Store, attempt_key: str, collected: Collected) -> None:
    """
    Put ``outputs.json``: every file that an attempt left behind. Sealing the same files again changes nothing.

    :raises ContentRefused: if other files were sealed before
    """
    seal = OutputsSeal(
        outputs={
            name: [OutputFile(path=file.name, size=file.size, sha256=file.sha256) for file in digested.files]
            for name, digested in collected.artifacts.items()
        }
    )
    key, data = f"{attempt_key}/{OUTPUTS_SEAL}", seal.to_bytes()
    if not store.put_if_absent(key, data) and store.read(key, OutputsSeal.limit) != data:
        raise ContentRefused(
            f"the outputs are no longer those that {store.uri(key)} sealed; something changed them after the program "
            "had ended"
        )
