# SPDX-License-Identifier: Apache-2.0
"""The Airflow version, and what differs between versions, in one place."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

if TYPE_CHECKING:
    from datetime import datetime, timedelta

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # before 3.2
    from airflow.exceptions import AirflowRescheduleException


def _base_version() -> tuple[int, int]:
    major, minor, *_ = airflow_version.split(".")
    return int(major), int(minor)


AIRFLOW_V_3_2_PLUS = _base_version() >= (3, 2)
AIRFLOW_V_3_3_PLUS = _base_version() >= (3, 3)


CONTROL_FLOW: tuple[type[Exception], ...] = (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    DownstreamTasksSkipped,
)
"""What a task says to Airflow by raising it; none of it is a failure that a budget pays for. A deferral is no ``Exception``."""


def retry_exponential_backoff(factor: float) -> bool | float:
    """
    The growth of the wait between tries as this Airflow takes it: a factor since 3.2, before that only whether the wait doubles.

    :param factor: growth from one wait to the next; 1 for a constant wait
    """
    if AIRFLOW_V_3_2_PLUS:
        return 0 if factor == 1 else factor
    return factor != 1


def _sdk(before_3_2: str) -> Any:
    """The module that has what Airflow's SDK has since 3.2."""
    return import_module("airflow.sdk" if AIRFLOW_V_3_2_PLUS else before_3_2)


def deferral_failed() -> type[Exception]:
    """What a task raises that is resumed after its trigger has failed."""
    home = "airflow.sdk.exceptions" if AIRFLOW_V_3_2_PLUS else "airflow.exceptions"
    found: type[Exception] = import_module(home).TaskDeferralError
    return found


def cron_timetable(cron: str, zone: str | None, start: datetime | None) -> Any:
    """
    The timetable that Airflow would make of ``schedule=cron``, in a time zone of its own.

    :param zone: name of the time zone; ``None`` for that of the start, or else Airflow's
    :param start: first date of the schedule
    """
    tz: Any = zone
    from airflow.providers.common.compat.sdk import conf

    if tz is None:
        # What Airflow serialises is a time zone of pendulum's, as it makes of a DAG's own start date.
        tz = import_module("pendulum").instance(start).timezone if start else import_module("airflow.settings").TIMEZONE
    if conf.getboolean(section="scheduler", key="create_cron_data_intervals"):
        return _sdk("airflow.timetables.interval").CronDataIntervalTimetable(cron, timezone=tz)
    return _sdk("airflow.timetables.trigger").CronTriggerTimetable(cron, timezone=tz)


def asset_or_time(assets: Any, timetable: Any) -> Any:
    """A schedule by assets and by time: whichever comes first."""
    return _sdk("airflow.timetables.assets").AssetOrTimeSchedule(assets=assets, timetable=timetable)


def deadline_alert(reference: str, interval: timedelta, path: str, target: Any, arguments: dict[str, Any]) -> Any:
    """
    An alert for a run that is late.

    :param reference: ``queued_at`` or ``logical_date``
    :param path: dotted path of what is called
    :param target: what is called
    :raises ValueError: if this Airflow cannot call it
    """
    sdk = _sdk("airflow.sdk.definitions.deadline")
    moments = {
        "queued_at": sdk.DeadlineReference.DAGRUN_QUEUED_AT,
        "logical_date": sdk.DeadlineReference.DAGRUN_LOGICAL_DATE,
    }
    if inspect.iscoroutinefunction(target) or _notifies_async(target):
        callback = sdk.AsyncCallback(path, kwargs=arguments)
    elif AIRFLOW_V_3_2_PLUS:
        callback = sdk.SyncCallback(path, kwargs=arguments)
    else:
        raise ValueError(
            f"Airflow {airflow_version} calls for a deadline only what can be awaited; expected an async function, or a notifier that has "
            "async_notify"
        )
    return sdk.DeadlineAlert(reference=moments[reference], interval=interval, callback=callback)


def _notifies_async(target: Any) -> bool:
    """Whether it is a notifier's class that says itself how it notifies without waiting."""
    from airflow.providers.common.compat.sdk import BaseNotifier

    if not isinstance(target, type) or not issubclass(target, BaseNotifier):
        return False
    mine, inherited = getattr(target, "async_notify", None), getattr(BaseNotifier, "async_notify", None)
    return mine is not None and mine is not inherited
