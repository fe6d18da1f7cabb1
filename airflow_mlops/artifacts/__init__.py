# SPDX-License-Identifier: Apache-2.0
"""
What steps hand over: the store, its layout, digests, manifests and the commit.

This package imports neither Airflow nor docker nor kubernetes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.artifacts.claims import all_generations, lay_claim, newest_claim
    from airflow_mlops.artifacts.commits import (
        StepReference,
        commit,
        find_committed,
        read_committed,
        read_manifest,
        seal_outputs,
    )
    from airflow_mlops.artifacts.digests import Digested, digest_file, digest_path
    from airflow_mlops.artifacts.errors import (
        AlreadyCommitted,
        ArchiveRefused,
        ArtifactError,
        ContentRefused,
        DocumentInvalid,
        InstanceUnknown,
        NotFound,
        OutputInvalid,
        OutputMissing,
        ReferenceRefused,
        Replaced,
        SourceRefused,
        StoreFailed,
    )
    from airflow_mlops.artifacts.external import external_artifact
    from airflow_mlops.artifacts.file_store import protect
    from airflow_mlops.artifacts.generations import Claim, Try, generation_of
    from airflow_mlops.artifacts.instance import instance_id, known_instance
    from airflow_mlops.artifacts.layout import (
        Place,
        decode_component,
        encode_component,
        iteration_of,
        new_attempt_id,
        origin_of,
    )
    from airflow_mlops.artifacts.manifest import Manifest, OutputsSeal, Seal
    from airflow_mlops.artifacts.metrics import parse_metrics
    from airflow_mlops.artifacts.outputs import Collected, collect
    from airflow_mlops.artifacts.parameters import check_parameter, returned_parameter
    from airflow_mlops.artifacts.source import Packed, RunSource, pack_source, source_for, stored_source, unpack_source
    from airflow_mlops.artifacts.store import Store
    from airflow_mlops.artifacts.transfer import ArchiveItem, Caps, archive, extract

_HOMES = {
    "artifact": ("Artifact",),
    "claims": ("all_generations", "lay_claim", "newest_claim"),
    "commits": ("StepReference", "commit", "find_committed", "read_committed", "read_manifest", "seal_outputs"),
    "digests": ("Digested", "digest_file", "digest_path"),
    "errors": (
        "AlreadyCommitted",
        "ArchiveRefused",
        "ArtifactError",
        "ContentRefused",
        "DocumentInvalid",
        "InstanceUnknown",
        "NotFound",
        "OutputInvalid",
        "OutputMissing",
        "ReferenceRefused",
        "Replaced",
        "SourceRefused",
        "StoreFailed",
    ),
    "external": ("external_artifact",),
    "file_store": ("protect",),
    "generations": ("Claim", "Try", "generation_of"),
    "instance": ("instance_id", "known_instance"),
    "layout": ("Place", "decode_component", "encode_component", "iteration_of", "new_attempt_id", "origin_of"),
    "manifest": ("Manifest", "OutputsSeal", "Seal"),
    "metrics": ("parse_metrics",),
    "outputs": ("Collected", "collect"),
    "parameters": ("check_parameter", "returned_parameter"),
    "source": ("Packed", "RunSource", "pack_source", "source_for", "stored_source", "unpack_source"),
    "store": ("Store",),
    "transfer": ("ArchiveItem", "Caps", "archive", "extract"),
}
_LAZY = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyCommitted",
    "ArchiveItem",
    "ArchiveRefused",
    "Artifact",
    "ArtifactError",
    "Caps",
    "Claim",
    "Collected",
    "ContentRefused",
    "Digested",
    "DocumentInvalid",
    "InstanceUnknown",
    "Manifest",
    "NotFound",
    "OutputInvalid",
    "OutputMissing",
    "OutputsSeal",
    "Packed",
    "Place",
    "ReferenceRefused",
    "Replaced",
    "RunSource",
    "Seal",
    "SourceRefused",
    "StepReference",
    "Store",
    "StoreFailed",
    "Try",
    "all_generations",
    "archive",
    "check_parameter",
    "collect",
    "commit",
    "decode_component",
    "digest_file",
    "digest_path",
    "encode_component",
    "external_artifact",
    "extract",
    "find_committed",
    "generation_of",
    "instance_id",
    "iteration_of",
    "known_instance",
    "lay_claim",
    "new_attempt_id",
    "newest_claim",
    "origin_of",
    "pack_source",
    "parse_metrics",
    "protect",
    "read_committed",
    "read_manifest",
    "returned_parameter",
    "seal_outputs",
    "source_for",
    "stored_source",
    "unpack_source",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
