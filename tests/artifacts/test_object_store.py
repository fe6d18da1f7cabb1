# SPDX-License-Identifier: Apache-2.0
"""A real S3 server as a store: nothing is cached, credentials stay secret, a server that cannot commit is refused."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import NotFound, ReferenceRefused, Store, StoreFailed, digest_path
from airflow_mlops.artifacts import object_store as module

StoreUrl = tuple[str, dict[str, Any]]


@pytest.fixture
def client(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The client's class, to be tampered with. Its instances are shared, and bind their methods when they are made."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs.S3FileSystem
    monkeypatch.undo()
    s3fs.S3FileSystem.clear_instance_cache()


def test_opening_imports_no_client_and_asks_nobody() -> None:
    script = (
        "import sys; from airflow_mlops.artifacts import Store\n"
        "Store.open('s3://no-such-bucket/x', {'endpoint_url': 'http://127.0.0.1:1'}).uri('a')\n"
        "Store.open('file:///tmp/x').uri('a')\n"
        "print(sorted({'s3fs', 'fsspec', 'aiohttp', 'botocore', 'airflow', 'docker', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.s3
def test_what_another_process_wrote_is_seen(s3_store_url: StoreUrl) -> None:
    url, options = s3_store_url
    # Two clients, as two processes have them; they share nothing.
    one, other = (Store.open(url, {**options, "skip_instance_cache": True}) for _ in range(2))
    assert one.list("run") == []
    other.put_if_absent("run/a", b"1")
    assert one.list("run") == ["run/a"]
    assert one.exists("run/a")
    other.delete_tree("run")
    assert not one.exists("run/a")


def _put(store: Store, key: str) -> None:
    if not store.put_if_absent(key, b"child"):
        raise SystemExit(3)


@pytest.mark.s3
def test_a_store_survives_a_fork(s3_store: Store) -> None:
    s3_store.put_if_absent("parent", b"1")
    child = multiprocessing.get_context("fork").Process(target=_put, args=(s3_store, "child"))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert s3_store.read("child", 10) == b"child"


@pytest.mark.s3
def test_a_large_file_goes_there_and_back(s3_store: Store, tmp_path: Path) -> None:
    """More than one part of a multipart upload."""
    with open(tmp_path / "big", "wb") as file:
        file.truncate(110 << 20)
        file.write(b"end")
    s3_store.upload(tmp_path / "big", "out/big")
    s3_store.download("out/big", tmp_path / "back")
    assert digest_path(tmp_path / "back").digest == digest_path(tmp_path / "big").digest


@pytest.mark.s3
def test_a_copy_is_made_by_the_server_and_a_digest_keeps_nothing_here(
    client: Any, s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(20):
        (tmp_path / "tree" / str(number)).write_bytes(b"x" * number)
    s3_store.upload(tmp_path / "tree", "out")
    for name in ("_cat_file", "_get_file"):
        monkeypatch.setattr(client, name, lambda *_, **__: pytest.fail("the bytes came here"))
    client.clear_instance_cache()
    copying = Store.open(s3_store.url, s3_store._options)
    copying.copy("out", "models/m")
    monkeypatch.undo()
    client.clear_instance_cache()
    assert s3_store.digest("models/m").digest == digest_path(tmp_path / "tree").digest


@pytest.mark.s3
def test_a_copy_of_which_a_file_is_missing_is_a_failure(
    client: Any, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        s3_store.put_if_absent(f"out/{name}", name.encode())
    honest = client._cp_file

    async def forgetful(self: Any, source: str, target: str, **options: Any) -> None:
        if not source.endswith("/b"):
            await honest(self, source, target, **options)

    monkeypatch.setattr(client, "_cp_file", forgetful)
    client.clear_instance_cache()
    with pytest.raises(StoreFailed, match="after the transfer 'b' is missing"):
        Store.open(s3_store.url, s3_store._options).copy("out", "models/m")


@pytest.mark.s3
def test_a_file_that_shrinks_while_it_is_digested_is_a_failure(
    client: Any, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.put_if_absent("out/a", b"1234567890")
    monkeypatch.setattr(module, "_READ_BLOCK", 4)
    honest = client._cat_file

    async def shorter(self: Any, path: str, start: int = 0, end: int = 0, **options: Any) -> bytes:
        return b"" if start >= 8 else bytes(await honest(self, path, start=start, end=end, **options))

    monkeypatch.setattr(client, "_cat_file", shorter)
    client.clear_instance_cache()
    with pytest.raises(StoreFailed, match="changed while it was read"):
        Store.open(s3_store.url, s3_store._options).digest("out/a")


@pytest.mark.s3
def test_a_missing_bucket_is_named(s3_store_url: StoreUrl) -> None:
    _, options = s3_store_url
    store = Store.open("s3://no-such-bucket/prefix", options)
    with pytest.raises(StoreFailed, match="s3://no-such-bucket/prefix/a.*bucket"):
        store.put_if_absent("a", b"1")
    with pytest.raises(NotFound, match="bucket exists"):
        store.read("a", 1)


@pytest.mark.s3
def test_wrong_credentials_are_told_apart_and_not_repeated(s3_store_url: StoreUrl) -> None:
    url, options = s3_store_url
    store = Store.open(url, {**options, "secret": "wrong-and-still-secret"})
    with pytest.raises(StoreFailed, match="credentials") as failure:
        store.put_if_absent("a", b"1")
    assert "wrong-and-still-secret" not in str(failure.value)


def test_credentials_are_struck_out_of_what_a_back_end_says() -> None:
    options = {"key": "AKIAEXAMPLE", "client_kwargs": {"aws_secret_access_key": "deepsecret"}, "region": "eu"}
    with pytest.raises(StoreFailed) as failure, module.failing("read", "s3://b/a", options):
        raise ValueError("no session for AKIAEXAMPLE / deepsecret in eu")
    assert "AKIAEXAMPLE" not in str(failure.value)
    assert "deepsecret" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_a_server_that_does_not_answer_is_named() -> None:
    options = {
        "key": "k", "secret": "s",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
        "config_kwargs": {"connect_timeout": 1, "retries": {"max_attempts": 0}},
    }  # fmt: skip
    pytest.importorskip("s3fs")
    store = Store.open("s3://bucket/prefix", options)
    with pytest.raises(StoreFailed, match="s3://bucket/prefix/a: .*check that the worker reaches the endpoint"):
        store.read("a", 1)


def test_a_store_that_cannot_create_exclusively_is_refused() -> None:
    with pytest.raises(StoreFailed, match="cannot create a file only if there is none"):
        Store.open("memory://bucket/prefix").put_if_absent("a", b"1")


def test_an_unknown_protocol_is_refused_when_it_is_used() -> None:
    with pytest.raises(StoreFailed, match="nosuch://bucket"):
        Store.open("nosuch://bucket/prefix").exists("a")


@pytest.mark.s3
def test_a_server_that_ignores_the_condition_is_found_out(
    client: Any, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no such server here; so the client leaves the condition out."""
    honest = client._pipe_file

    async def deaf(self: Any, path: str, data: bytes, mode: str = "overwrite", **options: Any) -> Any:
        return await honest(self, path, data, mode="overwrite", **options)

    monkeypatch.setattr(client, "_pipe_file", deaf)
    with pytest.raises(StoreFailed, match="ignores conditions on writes"):
        s3_store.put_if_absent("a", b"1")


@pytest.mark.s3
def test_a_conflict_at_the_same_moment_is_tried_again(
    client: Any, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS answers 409 to writers that meet; versitygw does not."""
    from botocore.exceptions import ClientError

    honest = client._pipe_file
    conflicts = iter([True, True])

    async def busy(self: Any, path: str, data: bytes, mode: str = "overwrite", **options: Any) -> Any:
        if next(conflicts, False):
            raise OSError("conflict") from ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return await honest(self, path, data, mode=mode, **options)

    monkeypatch.setattr(client, "_pipe_file", busy)
    assert s3_store.put_if_absent("a", b"1")
    assert next(conflicts, None) is None


@pytest.mark.s3
def test_names_that_mean_something_to_the_client_are_refused(s3_store: Store) -> None:
    with pytest.raises(ReferenceRefused, match="versionId"):
        s3_store.put_if_absent("a?versionId=1", b"1")


@pytest.mark.s3
def test_a_key_that_is_too_long_is_refused_with_a_reason(s3_store: Store) -> None:
    with pytest.raises(StoreFailed, match="1024 bytes"):
        s3_store.put_if_absent("/".join(["x" * 100] * 11), b"1")
