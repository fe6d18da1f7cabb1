# SPDX-License-Identifier: Apache-2.0
"""Data that lies elsewhere: looked at as was asked, never copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import ReferenceRefused, Store, digest_path, external_artifact

StoreUrl = tuple[str, dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "my data"
    (folder / "year").mkdir(parents=True)
    (folder / "year" / "a.csv").write_bytes(b"1,2\n" * 1000)
    (folder / "b.csv").write_bytes(b"3")
    return folder


def test_local_content_is_digested(data: Path) -> None:
    found = external_artifact("rows", "dataset", data.as_uri(), digest="content")
    assert (found.digest, found.size, found.is_tree) == (digest_path(data).digest, 4001, True)
    found = external_artifact("rows", "dataset", (data / "b.csv").as_uri(), digest="content")
    assert (found.digest, found.is_tree) == (digest_path(data / "b.csv").digest, False)


def test_without_a_digest_nobody_looks() -> None:
    found = external_artifact("rows", "dataset", "s3://lake/2026-01-01/", digest="none")
    assert (found.uri, found.digest, found.size) == ("s3://lake/2026-01-01/", "none", None)


def test_a_local_path_has_no_etag(data: Path) -> None:
    with pytest.raises(ReferenceRefused, match="digest: content or none"):
        external_artifact("rows", "dataset", data.as_uri(), digest="etag")


@pytest.mark.s3
def test_content_in_a_bucket_has_the_digest_of_the_files(data: Path, s3_store_url: StoreUrl) -> None:
    url, options = s3_store_url
    Store.open(url, options).upload(data, "lake/rows")
    found = external_artifact("rows", "dataset", f"{url}/lake/rows", digest="content", storage_options=options)
    assert (found.digest, found.size, found.is_tree) == (digest_path(data).digest, 4001, True)
    one = external_artifact("rows", "dataset", f"{url}/lake/rows/b.csv", digest="content", storage_options=options)
    assert one.digest == digest_path(data / "b.csv").digest


@pytest.mark.s3
def test_an_etag_changes_with_the_content(data: Path, s3_store_url: StoreUrl) -> None:
    url, options = s3_store_url
    store = Store.open(url, options)

    def look() -> str:
        store.upload(data / "b.csv", "lake/b.csv")
        uri = f"{url}/lake/b.csv"
        return external_artifact("rows", "dataset", uri, digest="etag", storage_options=options).digest

    first = look()
    assert first.startswith("etag:")
    assert look() == first
    (data / "b.csv").write_bytes(b"4")
    assert look() != first


@pytest.mark.s3
def test_a_folder_in_a_bucket_has_no_etag(data: Path, s3_store_url: StoreUrl) -> None:
    url, options = s3_store_url
    Store.open(url, options).upload(data, "lake/rows")
    with pytest.raises(ReferenceRefused, match="has no ETag"):
        external_artifact("rows", "dataset", f"{url}/lake/rows", digest="etag", storage_options=options)


@pytest.mark.s3
@pytest.mark.parametrize("digest", ["content", "etag"])
def test_what_is_not_in_the_bucket_is_told_apart(s3_store_url: StoreUrl, digest: str) -> None:
    url, options = s3_store_url
    with pytest.raises(ReferenceRefused, match="lake/nothing"):
        external_artifact("rows", "dataset", f"{url}/lake/nothing", digest=digest, storage_options=options)


def test_what_is_not_on_this_worker_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ReferenceRefused, match="does not exist on this worker"):
        external_artifact("rows", "dataset", (tmp_path / "nothing").as_uri(), digest="content")


@pytest.mark.parametrize("uri", ["", "/etc/passwd", "s3://lake/../x", "s3://user:pw@lake/x", "s3://lake/a\nb"])
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(ReferenceRefused) as failure:
        external_artifact("rows", "dataset", uri, digest="none")
    assert "pw" not in str(failure.value)


def test_an_unknown_way_of_looking_is_refused() -> None:
    with pytest.raises(ReferenceRefused, match="content, etag, none"):
        external_artifact("rows", "dataset", "s3://lake/x", digest="md5")
