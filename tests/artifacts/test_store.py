# SPDX-License-Identifier: Apache-2.0
"""What every store promises: whole documents, one winner, keys that stay inside, trees that arrive as they left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_mlops.artifacts import DocumentInvalid, NotFound, ReferenceRefused, Store, StoreFailed, digest_path

LEADING_OUT = ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\0b", "a\nb", "x" * 5000]
STRANGE_NAMES = [
    "plain.csv",
    "with space.csv",
    "ünïcode-日本.csv",
    "a+b=c&d#e%20?f.csv",
    "[x]*.csv",
    "deep/er/file",
    "-dash",
    ".hidden",
]


def write_tree(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * (number * 100))
    return folder


def test_what_was_put_is_read(store: Store) -> None:
    assert store.put_if_absent("a/b.json", b"{}")
    assert store.read("a/b.json", 10) == b"{}"


def test_an_empty_document_is_a_document(store: Store) -> None:
    assert store.put_if_absent("a/empty", b"")
    assert store.read("a/empty", 10) == b""
    assert not store.put_if_absent("a/empty", b"x")


def test_nothing_is_overwritten(store: Store) -> None:
    assert store.put_if_absent("a/b.json", b"first")
    assert not store.put_if_absent("a/b.json", b"second")
    assert not store.put_if_absent("a/b.json", b"first")
    assert store.read("a/b.json", 10) == b"first"


def test_of_twenty_writers_one_wins_and_its_bytes_are_whole(store: Store) -> None:
    for race in range(5):
        key = f"race-{race}/manifest.json"
        documents = [bytes([number]) * 10_000 for number in range(20)]
        together = threading.Barrier(20)

        def put(data: bytes, key: str = key, together: threading.Barrier = together) -> bool:
            together.wait()
            return store.put_if_absent(key, data)

        with ThreadPoolExecutor(20) as pool:
            won = list(pool.map(put, documents))
        assert won.count(True) == 1
        assert store.read(key, 20_000) == documents[won.index(True)]


def test_a_document_that_is_not_there_is_told_apart(store: Store) -> None:
    with pytest.raises(NotFound, match=r"a/b\.json"):
        store.read("a/b.json", 10)
    with pytest.raises(NotFound):
        store.download("a/b", Path("/nonexistent-target"))


def test_a_document_over_the_limit_is_refused(store: Store) -> None:
    store.put_if_absent("big", b"x" * 100)
    assert len(store.read("big", 100)) == 100
    with pytest.raises(DocumentInvalid, match="99 bytes"):
        store.read("big", 99)


def test_existence_is_seen_at_once(store: Store) -> None:
    assert not store.exists("a")
    assert not store.exists("a/b")
    store.put_if_absent("a/b", b"1")
    assert store.exists("a")
    assert store.exists("a/b")
    assert not store.exists("a/c")


def test_a_listing_holds_the_keys_right_below(store: Store) -> None:
    assert store.list("run") == []
    for key in ("run/b/file", "run/a", "run/c/d/e", "runs/other"):
        store.put_if_absent(key, b"1")
    assert store.list("run") == ["run/a", "run/b", "run/c"]
    store.put_if_absent("run/z", b"1")
    assert store.list("run")[-1] == "run/z"


@pytest.mark.parametrize("key", LEADING_OUT)
def test_no_key_leads_out(store: Store, key: str) -> None:
    for use in (
        lambda: store.put_if_absent(key, b""),
        lambda: store.read(key, 1),
        lambda: store.exists(key),
        lambda: store.list(key),
        lambda: store.delete_tree(key),
        lambda: store.local_path(key) or store.uri(key),
        lambda: store.uri(key),
        lambda: store.key(f"{store.url}/{key}"),
        lambda: store.copy(key, "to"),
        lambda: store.copy("from", key),
        lambda: store.digest(key),
    ):
        with pytest.raises(ReferenceRefused):
            use()


def test_a_uri_and_its_key_belong_together(store: Store) -> None:
    assert store.uri("a/b.csv") == f"{store.url}/a/b.csv"
    assert store.key(store.uri("a/b.csv")) == "a/b.csv"
    assert store.contains(store.uri("a"))


def test_uris_of_other_places_are_refused(store: Store) -> None:
    for uri in (store.url, store.url + "x/a", "s3://other/a", "file:///etc/passwd", "", store.url + "/../x"):
        assert not store.contains(uri)
        with pytest.raises(ReferenceRefused):
            store.key(uri)


def test_a_file_goes_there_and_back(store: Store, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\0\xff" * 1000)
    store.upload(tmp_path / "model.bin", "out/model/model.bin")
    store.download("out/model/model.bin", tmp_path / "back" / "again.bin")
    assert (tmp_path / "back" / "again.bin").read_bytes() == b"\0\xff" * 1000


def test_a_tree_goes_there_and_back_with_its_digest(store: Store, tmp_path: Path) -> None:
    names = STRANGE_NAMES + [f"part-{number:03}" for number in range(60)]
    before = digest_path(write_tree(tmp_path / "tree", names))
    store.upload(tmp_path / "tree", "out/data")
    store.download("out/data", tmp_path / "back")
    after = digest_path(tmp_path / "back")
    assert after.digest == before.digest
    assert {file.name for file in after.files} == set(names)


def test_a_link_is_not_uploaded(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    with pytest.raises(Exception, match="symbolic link"):
        store.upload(tmp_path / "tree", "out/data")
    assert not store.exists("out/data/link")


def test_a_folder_is_not_mistaken_for_one_with_the_same_beginning(store: Store, tmp_path: Path) -> None:
    store.put_if_absent("out/data/a", b"1")
    store.put_if_absent("out/data-2/b", b"22")
    store.download("out/data", tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["a"]
    store.delete_tree("out/data")
    assert store.exists("out/data-2/b")


def test_a_tree_is_deleted(store: Store, tmp_path: Path) -> None:
    store.upload(write_tree(tmp_path / "tree", STRANGE_NAMES), "run/out")
    store.put_if_absent("run/other", b"1")
    store.delete_tree("run/out")
    assert not store.exists("run/out")
    assert store.exists("run/other")
    store.delete_tree("run/out")
    store.delete_tree("run/other")
    assert store.list("run") == []


def test_a_copy_within_the_store_is_what_it_was(store: Store, tmp_path: Path) -> None:
    names = STRANGE_NAMES + [f"part-{number:03}" for number in range(40)]
    before = digest_path(write_tree(tmp_path / "tree", names))
    store.upload(tmp_path / "tree", "out/data")
    store.upload(tmp_path / "tree/-dash", "out/one")
    store.copy("out/data", "models/a/data")
    store.copy("out/one", "models/b/one")
    store.delete_tree("out")
    found = store.digest("models/a/data")
    assert (found.digest, found.size, found.is_tree) == (before.digest, before.size, True)
    assert {file.name for file in found.files} == set(names)
    assert store.digest("models/b/one").digest == digest_path(tmp_path / "tree/-dash").digest


def test_a_file_is_digested_where_it_lies(store: Store, tmp_path: Path) -> None:
    for name, size in (("empty", 0), ("small", 3), ("blocks", (16 << 20) * 2), ("more", (16 << 20) + 1)):
        with open(tmp_path / name, "wb") as file:
            file.write(b"end")
            file.truncate(size)
        store.upload(tmp_path / name, f"out/{name}")
        found, expected = store.digest(f"out/{name}"), digest_path(tmp_path / name)
        assert (found.digest, found.size, found.is_tree) == (expected.digest, size, False)
        assert found.files == expected.files


def test_a_copy_never_overwrites(store: Store) -> None:
    for key in ("from/a", "file", "folder/b"):
        store.put_if_absent(key, key.encode())
    for target in ("file", "folder"):
        with pytest.raises(StoreFailed, match=f"{target} is taken"):
            store.copy("from", target)
        with pytest.raises(StoreFailed, match=f"{target} is taken"):
            store.copy("from/a", target)
    assert store.read("file", 10) == b"file"
    assert store.list("folder") == ["folder/b"]


def test_what_is_not_there_is_neither_copied_nor_digested(store: Store) -> None:
    for use in (lambda: store.copy("gone", "to"), lambda: store.digest("gone")):
        with pytest.raises(NotFound, match=f"{store.url}/gone"):
            use()
    assert not store.exists("to")


def test_a_copy_takes_no_folder_with_the_same_beginning(store: Store) -> None:
    store.put_if_absent("out/data/a", b"1")
    store.put_if_absent("out/data-2/b", b"22")
    store.copy("out/data", "to")
    assert store.list("to") == ["to/a"]


def test_of_all_who_delete_one_tree_none_fails(store: Store, tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", [f"{folder}/{name}" for folder in range(5) for name in range(5)])
    for race in range(4):
        store.upload(tmp_path / "tree", f"run/{race}/out")
        together = threading.Barrier(8)

        def delete(key: str = f"run/{race}/out", together: threading.Barrier = together) -> None:
            together.wait()
            store.delete_tree(key)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(delete) for _ in range(8)]:
                done.result()
        assert not store.exists(f"run/{race}/out")


@pytest.mark.parametrize(
    "url",
    [
        "relative/folder",
        "file://relative",
        "file:///",
        "/",
        "",
        "s3://",
        "s3:///",
        "S3://bucket",
        "s3://bucket/../other",
        "s3://bucket/a?versionId=1",
        "simplecache::s3://bucket",
        "/a/../b",
        "s3://bucket/a\nb",
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreFailed, match="store URL"):
        Store.open(url)


def test_a_url_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(StoreFailed) as failure:
        Store.open("s3://AKIAKEY:verysecret@bucket/prefix")
    assert "verysecret" not in str(failure.value)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///data/mlops", "file:///data/mlops"),
        ("file:///data/mlops/", "file:///data/mlops"),
        ("/data/mlops", "file:///data/mlops"),
        ("file:///data/my%20store", "file:///data/my store"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_a_root_has_one_spelling(url: str, root: str) -> None:
    assert Store.open(url).url == root
