# SPDX-License-Identifier: Apache-2.0
"""What gates and picks look at: the numbers of metrics and the values of parameters that a step has as inputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import ArtifactError, parse_metrics
from airflow_mlops.artifacts.metrics import MAX_METRICS
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.models import METRICS
from airflow_mlops.operators.staging import local_copy

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt


def values_of(attempt: Attempt, names: Collection[str]) -> dict[str, Any]:
    """
    Values of inputs by name; an optional input that is not there has none.

    :raises BadStep: if an input has no values
    """
    inputs = attempt.resolved
    try:
        return {
            **{name: value for name, value in inputs.parameters.items() if name in names},
            **{name: _numbers(name, item, attempt) for name, item in inputs.artifacts.items() if name in names},
        }
    finally:
        attempt.close()


def _numbers(name: str, artifact: Artifact, attempt: Attempt) -> dict[str, Any]:
    """
    The numbers of a metrics artifact. Those of a step travel with it; of a file that was imported, it is read.

    :raises BadStep: if it is none, or does not hold what metrics do
    """
    if artifact.type == "model" and isinstance(measured := artifact.metadata.get(METRICS), dict):
        return dict(measured)
    if artifact.type != "metrics":
        raise BadStep(f"input '{name}' is a {artifact.type}; expected metrics, a parameter or a registered model")
    if artifact.metadata:
        return dict(artifact.metadata)
    path = local_copy(artifact, attempt)
    if not path.is_file() or path.stat().st_size > MAX_METRICS:
        raise BadStep(f"input '{name}', {artifact.uri}, is no metrics file of up to {MAX_METRICS} bytes")
    try:
        return dict(parse_metrics(path.read_bytes()))
    except ValueError as error:
        raise BadStep(f"input '{name}', {artifact.uri}, {error}") from error
    except OSError as error:
        raise ArtifactError(f"{artifact.uri} cannot be read: {error.strerror}") from error
