# SPDX-License-Identifier: Apache-2.0
"""Registries to test with: what holds for one must hold for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.artifacts import Artifact, Store, digest_path
from airflow_mlops.registry import FileRegistry, MlflowRegistry, ModelRegistry
from tests.parts.stores import file_store, s3_store, store

if TYPE_CHECKING:
    from tests.parts.mlflow import MlflowServer

__all__ = ["file_store", "make_model", "registry", "s3_store", "store"]

Make = Callable[..., Artifact]


@pytest.fixture(params=["files", pytest.param("mlflow", marks=pytest.mark.mlflow)])
def registry(request: pytest.FixtureRequest, store: Store) -> ModelRegistry:
    """Each kind of registry in turn."""
    if request.param == "mlflow":
        server: MlflowServer = request.getfixturevalue("empty_mlflow")
        return MlflowRegistry(store, "prod", server.url)
    return FileRegistry(store, "prod")


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
