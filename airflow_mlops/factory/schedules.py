# SPDX-License-Identifier: Apache-2.0
"""The schedule of a spec as Airflow takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAll, AssetAny

from airflow_mlops.operators.version_compat import asset_or_time, cron_timetable

if TYPE_CHECKING:
    from airflow_mlops.spec.graph import Pipeline
    from airflow_mlops.spec.scheduling import AssetsAll, AssetsAny


def schedule_of(pipeline: Pipeline) -> Any:
    """Cron as text, a condition on assets, a timetable, or ``None``: whatever ``DAG(schedule=…)`` takes."""
    schedule = pipeline.spec.schedule
    if schedule is None or isinstance(schedule, str):
        return schedule
    assets = _condition(schedule.assets) if schedule.assets is not None else None
    if schedule.cron is None:
        return assets
    timetable = cron_timetable(schedule.cron, schedule.timezone, pipeline.spec.start_date)
    return timetable if assets is None else asset_or_time(assets, timetable)


def _condition(assets: AssetsAny | AssetsAll) -> Any:
    if hasattr(assets, "any"):
        return AssetAny(*map(_meant, assets.any))
    return AssetAll(*map(_meant, assets.all))


def _meant(text: str) -> Any:
    """The asset of a URI or name, whatever else it is called where it is made."""
    return Asset.ref(uri=text) if "://" in text else Asset.ref(name=text)
