# SPDX-License-Identifier: Apache-2.0
"""Stores and places to test with."""

from __future__ import annotations

import pytest

from airflow_mlops.artifacts import Place
from tests.parts.stores import file_store, s3_store, store

__all__ = ["file_store", "place", "s3_store", "store"]


@pytest.fixture
def place() -> Place:
    """A place with the run id that Airflow gives a scheduled run."""
    return Place("prod", "churn", "scheduled__2026-01-01T00:00:00+00:00", "route.big.fit", "-", 1)
