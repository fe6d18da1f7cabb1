# SPDX-License-Identifier: Apache-2.0
"""The index of versions: it spares reading, and says nothing that the records do not say."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.artifacts import DocumentInvalid, Store
from airflow_mlops.registry import FileRegistry
from airflow_mlops.registry.model import Registered
from airflow_mlops.registry.records import IndexRecord, VersionRecord

if TYPE_CHECKING:
    from tests.registry.conftest import Make

MODEL = "prod/_models/churn"


def put_record(store: Store, number: int, content: str) -> str:
    """A version without files; its digest."""
    name = hashlib.sha256(content.encode()).hexdigest()
    model = Registered(
        name="churn", version=number, digest=f"sha256:{name}", size=1, file="m", registered_at=1.0, registered_by="me"
    )
    record = VersionRecord(folder=f"files/sha256-{name}/0/{'a' * 16}", model=model)
    store.put_if_absent(f"{MODEL}/versions/{number}.json", record.to_bytes(), durable=False)
    return model.digest


@pytest.fixture
def store(file_store: Store) -> Store:
    """A folder: reads of it can be counted."""
    return file_store


@pytest.fixture
def digests(store: Store) -> dict[int, str]:
    """230 versions and what they are."""
    return {number: put_record(store, number, f"content {number}") for number in range(1, 231)}


@pytest.fixture
def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of all documents that are read."""
    keys: list[str] = []
    honest = store.read

    def read(key: str, limit: int) -> bytes:
        keys.append(key)
        return honest(key, limit)

    monkeypatch.setattr(store, "read", read)
    return keys


def test_a_registration_reads_a_document_for_each_hundred_versions_and_what_is_left(
    store: Store, make_model: Make, digests: dict[int, str], reads: list[str]
) -> None:
    registry = FileRegistry(store, "prod")
    assert registry.register("churn", make_model(), by="me")[0].version == 231
    assert store.list(f"{MODEL}/index") == [f"{MODEL}/index/1.json", f"{MODEL}/index/2.json"]
    reads.clear()
    assert registry.register("churn", make_model(), by="me")[0].version == 232
    assert len([key for key in reads if "/versions/" in key]) == 31
    assert len([key for key in reads if "/index/" in key]) == 2


@pytest.mark.parametrize("number", [1, 100, 101, 200, 201, 230])
def test_the_same_content_is_found_however_long_ago_it_was_registered(
    store: Store, make_model: Make, digests: dict[int, str], number: int
) -> None:
    registry = FileRegistry(store, "prod")
    artifact = make_model(f"content {number}".encode())
    assert artifact.digest == digests[number]
    for _ in range(2):
        version, created = registry.register("churn", artifact, by="me")
        assert (version.version, created) == (number, False)
    registry.delete("churn", number, by="me")
    version, created = registry.register("churn", artifact, by="me")
    assert (version.version, created) == (231, True)
    assert store.digest(store.key(version.uri)).digest == artifact.digest
    assert "/1/" in version.uri


def test_a_hundred_with_a_gap_is_not_indexed(store: Store, make_model: Make, digests: dict[int, str]) -> None:
    store.delete_tree(f"{MODEL}/versions/50.json")
    FileRegistry(store, "prod").register("churn", make_model(), by="me")
    assert store.list(f"{MODEL}/index") == [f"{MODEL}/index/2.json"]


def test_an_index_that_cannot_be_believed_is_named(store: Store, make_model: Make, digests: dict[int, str]) -> None:
    good = {"model": "churn", "segment": 1, "digests": [digests[number] for number in range(1, 101)]}
    registry = FileRegistry(store, "prod")
    key = f"{MODEL}/index/1.json"
    for change in ({"model": "other"}, {"segment": 2}):
        store.delete_tree(key)
        store.put_if_absent(key, IndexRecord(**{**good, **change}).to_bytes())
        with pytest.raises(DocumentInvalid, match=r"index/1\.json: is the index of other versions"):
            registry.register("churn", make_model(), by="me")
    for data in (b"{}", b" " * 100_000, IndexRecord(**good).to_bytes().replace(b"sha256:", b"sha257:")):
        store.delete_tree(key)
        store.put_if_absent(key, data)
        with pytest.raises(DocumentInvalid, match=r"index/1\.json"):
            registry.register("churn", make_model(), by="me")
