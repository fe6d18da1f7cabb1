# SPDX-License-Identifier: Apache-2.0
"""
Airflow's assets: an output that is marked tells Airflow what was committed, and a pipeline that waits for it finds the artifact again.

An event holds what a reader wants to see (URI, digest, size, metrics) and the manifest with its sha256. A pipeline believes the manifest alone, and
only one in its own store: whoever may create asset events by Airflow's API can write whatever they like into them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset

from airflow_mlops.operators.failures import BadStep

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Store
    from airflow_mlops.operators.base import StepOperator

MAX_METRICS = 100
"""Scalars in an event: a few to look at; all of them are in the manifest."""


def outlets_of(operator: StepOperator) -> list[Asset]:
    """
    The assets that a step updates.

    :raises BadStep: if an asset is to be named after a DAG that the step is not in
    """
    return [asset for _, asset in _marked(operator)]


def _marked(operator: StepOperator) -> Iterator[tuple[str, Asset]]:
    for name, output in operator.outputs.items():
        if output.asset and output.is_artifact:
            yield name, Asset(output.asset if isinstance(output.asset, str) else _own_uri(operator, name))


def _own_uri(operator: StepOperator, output: str) -> str:
    if not operator.has_dag():  # type: ignore[no-untyped-call]
        raise BadStep(
            f"step '{operator.task_id}': output '{output}' says asset: True, which is named after the DAG; make the step inside 'with DAG(…)', "
            "or give the asset's URI"
        )
    return f"mlops://{operator.dag_id}/{operator.task_id.replace('.', '/')}/{output}"


def announce(operator: StepOperator, context: Any, reference: Mapping[str, Any]) -> None:
    """
    Say in the events of a step's assets what was committed. Airflow sends them when the task has succeeded.

    :param reference: what the step hands on in XCom
    """
    for name, asset in _marked(operator):
        artifact = reference["artifacts"][name]
        context["outlet_events"][asset].extra.update(
            {
                "output": name,
                "type": artifact["type"],
                "uri": artifact["uri"],
                "digest": artifact["digest"],
                "size": artifact.get("size"),
                "metrics": _metrics(reference["metrics"]),
                "manifest": reference["manifest"],
                "sha256": reference["sha256"],
            }
        )


def _metrics(by_output: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The scalars of the step's metrics outputs, not more than an event should hold."""
    left = MAX_METRICS
    kept = {}
    for name, values in by_output.items():
        kept[name] = dict(list(values.items())[:left])
        left -= len(kept[name])
    return kept


def newest(asset: str, context: Any, store: Store) -> Artifact:
    """
    The artifact of an asset's newest update: of those that started this run, or of all.

    :param asset: URI or name of the asset
    :raises BadStep: if there is no update, or it was none of a step of this installation's
    """
    from airflow_mlops.artifacts import ArtifactError, read_manifest

    extra = _newest_extra(asset, context)
    uri, sha256, output = (extra.get(name) for name in ("manifest", "sha256", "output"))
    if not (isinstance(uri, str) and isinstance(sha256, str) and isinstance(output, str)):
        raise BadStep(
            f"the newest update of asset '{asset}' says no manifest; expected one by an output of a step that is marked as this asset"
        )
    try:
        manifest = read_manifest(store, uri, sha256)
    except ArtifactError as error:
        raise BadStep(f"the newest update of asset '{asset}' does not hold: {error}") from error
    if output not in manifest.artifacts:
        raise BadStep(f"the newest update of asset '{asset}' does not hold: {uri} has no artifact '{output}'")
    return manifest.artifact(output)


def _newest_extra(name: str, context: Any) -> Mapping[str, Any]:
    started_by = [
        event
        for asset, events in context["triggering_asset_events"].items()
        if name in (asset.uri, asset.name)
        for event in events
    ]
    if started_by:
        return dict(max(started_by, key=lambda event: event.timestamp).extra or {})
    known = context["inlet_events"][Asset(name)]
    if not len(known):
        raise BadStep(
            f"asset '{name}' has not been updated yet in this Airflow (a local run knows no other runs); "
            "expected a run of the pipeline that makes it, or 'uri' in place of 'asset'"
        )
    return dict(known[-1].extra or {})
