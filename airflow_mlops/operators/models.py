# SPDX-License-Identifier: Apache-2.0
"""Registered models as steps see them: which registry it is, and which version a reference means when a step begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.artifacts import DocumentInvalid
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.registry import UnknownAlias, UnknownModel, UnknownVersion
from airflow_mlops.spec.model_names import NameRefused

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.registry import ModelRegistry

METRICS, SINCE = "metrics", "registered_at"
"""In the metadata of a registered model: what was measured on it, and when it was registered, seconds since the epoch."""


def registry_of(attempt: Attempt) -> ModelRegistry:
    """The registry of this deployment."""
    from airflow_mlops.operators.mlflow_connection import open_registry

    return open_registry(attempt.settings, attempt.store, attempt.identity.instance)


def version_of(artifact: Artifact) -> str:
    """The registered model that an input is, by its number: ``models:churn/3``; empty for what is none."""
    known = artifact.metadata
    return f"models:{known['model']}/{known['version']}" if "version" in known and "model" in known else ""


def registered(name: str, reference: str, registry: ModelRegistry, *, optional: bool) -> Artifact | None:
    """
    The version that a reference means now; ``None`` where no version has the alias yet and a step can do without. An alias, or a number, that
    leads to no version is something else: that was deleted, or damaged.

    :param name: of the input
    :raises BadStep: if there is none, or the reference is none
    """
    from dataclasses import replace

    try:
        version = registry.resolve(reference)
    except (UnknownModel, UnknownAlias, UnknownVersion, DocumentInvalid) as error:
        if optional and isinstance(error, UnknownModel | UnknownAlias):
            return None
        raise BadStep(f"input '{name}' reads {reference}: {error}") from error
    except NameRefused as error:
        raise BadStep(f"input '{name}': {error}") from error
    artifact = version.as_artifact(name)
    return replace(
        artifact, metadata={**artifact.metadata, METRICS: dict(version.metrics), SINCE: version.registered_at}
    )
