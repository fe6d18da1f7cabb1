# SPDX-License-Identifier: Apache-2.0
"""Registries to test with: what holds for one must hold for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import Artifact, Store, digest_path
from airflow_mlops.registry import FileRegistry, ModelRegistry

Make = Callable[..., Artifact]


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
    """Each kind of store in turn: where runs leave models."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(params=["files"])
def registry(request: pytest.FixtureRequest, store: Store) -> ModelRegistry:
    """Each kind of registry in turn."""
    return {"files": lambda: FileRegistry(store, "prod")}[request.param]()


@pytest.fixture
def make_model(store: Store, tmp_path: Path) -> Make:
    """Makes models as steps do: a file or folder in the store, with its digest."""
    return maker(store, tmp_path)


def maker(store: Store, scratch: Path) -> Make:
    """
    What makes models in a store: of one file called ``file``, or of a folder with ``files``; no two with the same
    content unless it is given.
    """
    count = itertools.count(1)

    def make(content: bytes | None = None, files: dict[str, bytes] | None = None, **changes: Any) -> Artifact:
        number = next(count)
        source = scratch / f"made-{number}" / "model.skops"
        source.parent.mkdir(parents=True)
        if files is None:
            source.write_bytes(b"model %d" % number if content is None else content)
        for name, data in (files or {}).items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        key = f"prod/churn/run-{number}/fit/-/1/0a1b2c/outputs/model"
        key = key if files is not None else f"{key}/model.skops"
        store.upload(source, key)
        found = digest_path(source)
        values = {
            "name": "model",
            "type": "model",
            "uri": store.uri(key),
            "digest": found.digest,
            "size": found.size,
            "is_tree": found.is_tree,
            "file": None if files is not None else "model.skops",
        }
        return Artifact(**{**values, **changes})

    return make
