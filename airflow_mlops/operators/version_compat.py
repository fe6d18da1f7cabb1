# SPDX-License-Identifier: Apache-2.0
"""The Airflow version, and what differs between versions, in one place."""

from __future__ import annotations

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # before 3.2
    from airflow.exceptions import AirflowRescheduleException


def _base_version() -> tuple[int, int]:
    major, minor, *_ = airflow_version.split(".")
    return int(major), int(minor)


AIRFLOW_V_3_2_PLUS = _base_version() >= (3, 2)


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
