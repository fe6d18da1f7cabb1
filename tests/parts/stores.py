# SPDX-License-Identifier: Apache-2.0
"""Stores to test with: what holds for one must hold for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import Store


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    """A store in a folder that does not exist yet."""
    return Store.open(f"file://{tmp_path}/store")


@pytest.fixture
def s3_store(s3_store_url: tuple[str, dict[str, Any]]) -> Store:
    """A store on a real S3 server."""
    url, options = s3_store_url
    return Store.open(url, options)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest) -> Store:
    """Each kind of store in turn."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found
