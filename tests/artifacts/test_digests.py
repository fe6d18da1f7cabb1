# SPDX-License-Identifier: Apache-2.0
"""A digest is of content: bytes and names, and nothing else."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.artifacts import ContentRefused, digest_file, digest_path
from airflow_mlops.artifacts.digests import FileDigest, tree_digest
from airflow_mlops.artifacts.scan import MAX_DEPTH, scan


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


FILES = {"b/two": b"2" * 3000, "a": b"1", "b-": b"", "ü": b"u"}


def test_the_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 1_000_000)
    found = digest_path(tmp_path / "f")
    assert found.digest == digest_file(tmp_path / "f") == "sha256:" + hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert (found.size, found.is_tree, found.files[0].name) == (3_000_000, False, "")
    assert found.seconds > 0


def test_the_digest_of_a_tree_is_the_documented_one(tmp_path: Path) -> None:
    listing = b"".join(
        f"{hashlib.sha256(FILES[name]).hexdigest()} {len(FILES[name])} {name}\n".encode()
        for name in sorted(FILES, key=str.encode)
    )
    found = digest_path(make(tmp_path / "t", FILES))
    assert found.digest == "sha256-tree:" + hashlib.sha256(listing).hexdigest()
    assert [file.name for file in found.files] == ["a", "b-", "b/two", "ü"]
    assert (found.size, found.is_tree) == (3002, True)


def test_order_time_mode_and_empty_folders_do_not_count(tmp_path: Path) -> None:
    one = make(tmp_path / "one", FILES)
    other = make(tmp_path / "other", dict(reversed(FILES.items())))
    (other / "empty" / "folder").mkdir(parents=True)
    os.utime(other / "a", (0, 0))
    (other / "a").chmod(0o700)
    assert digest_path(one).digest == digest_path(other).digest


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a").write_bytes(b"2"),
        lambda folder: (folder / "a").rename(folder / "c"),
        lambda folder: (folder / "a").rename(folder / "b" / "a"),
        lambda folder: (folder / "new").write_bytes(b""),
        lambda folder: (folder / "b-").unlink(),
    ],
    ids=["content", "name", "folder", "added", "removed"],
)
def test_every_change_of_content_counts(tmp_path: Path, change: Callable[[Path], object]) -> None:
    folder = make(tmp_path / "t", FILES)
    before = digest_path(folder).digest
    change(folder)
    assert digest_path(folder).digest != before


entries = st.tuples(st.text("ab/ ü", min_size=1), st.integers(0, 99), st.sampled_from(["0" * 64, "1" * 64]))


@given(st.lists(entries, unique_by=lambda entry: entry[0]))
def test_the_order_of_a_listing_does_not_count(entries: list[tuple[str, int, str]]) -> None:
    files = [FileDigest(*entry) for entry in entries]
    assert tree_digest(files) == tree_digest(files[::-1])


def test_a_folder_with_one_file_is_not_that_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "t", {"a": b"1"})
    assert digest_path(folder).digest != digest_path(folder / "a").digest


def test_waiting_for_the_disk_changes_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "t", FILES)
    assert digest_path(folder, sync=True).digest == digest_path(folder).digest


def test_memory_stays_small(tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    digest_path(tmp_path / "big")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def link_in(folder: Path) -> None:
    (folder / "x").symlink_to("a")


def link_out(folder: Path) -> None:
    (folder / "x").symlink_to("/etc/passwd")


def broken_link(folder: Path) -> None:
    (folder / "x").symlink_to("nowhere")


def linked_folder(folder: Path) -> None:
    (folder / "x").symlink_to("b")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "b" / "x")


def unix_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket may have 108 bytes
    try:
        socket.socket(socket.AF_UNIX).bind("x")
    finally:
        os.chdir(here)


def newline(folder: Path) -> None:
    (folder / "x\nx").touch()


def no_text(folder: Path) -> None:
    open(os.path.join(os.fsencode(folder), b"x\xff"), "wb").close()


def deep(folder: Path) -> None:
    (folder / "/".join(["x"] * (MAX_DEPTH + 2))).mkdir(parents=True)


def long_path(folder: Path) -> None:
    (folder / "/".join(["x" * 200] * 6)).mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (link_in, "symbolic link"),
        (link_out, "symbolic link"),
        (broken_link, "symbolic link"),
        (linked_folder, "symbolic link"),
        (pipe, "named pipe"),
        (unix_socket, "socket"),
        (newline, "control characters"),
        (no_text, "not UTF-8"),
        (deep, "deeper"),
        (long_path, "1024"),
    ],
)
def test_what_is_no_artifact_is_refused_by_name(tmp_path: Path, spoil: Callable[[Path], None], word: str) -> None:
    folder = make(tmp_path / "t", FILES)
    spoil(folder)
    with pytest.raises(ContentRefused, match=word) as failure:
        digest_path(folder)
    assert str(folder) in str(failure.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device, which only root can")
def test_a_device_is_refused(tmp_path: Path) -> None:
    os.mknod(tmp_path / "zero", 0o20666, os.makedev(1, 5))
    with pytest.raises(ContentRefused, match="character device"):
        digest_path(tmp_path / "zero")


def test_a_link_is_no_artifact_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(ContentRefused, match="symbolic link"):
        digest_path(tmp_path / "link")


def test_too_many_files_are_refused_with_a_remedy(tmp_path: Path) -> None:
    folder = make(tmp_path / "t", {f"{number}": b"" for number in range(4)})
    assert len(scan(folder, max_files=4)) == 4
    with pytest.raises(ContentRefused, match="more than 3 files; pack them"):
        scan(folder, max_files=3)


def test_too_many_folders_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "t" / f"{number}").mkdir(parents=True)
    with pytest.raises(ContentRefused, match="more than 3 folders"):
        scan(tmp_path / "t", max_files=3)


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_path(tmp_path / "nothing")


def test_a_folder_is_not_digested_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(ContentRefused, match="is a folder"):
        digest_file(tmp_path)


@pytest.mark.parametrize("mode", ["ab", "r+b"], ids=["longer", "in place"])
def test_a_file_that_is_still_written_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (64 << 20))
    stop, started = threading.Event(), threading.Event()

    def write() -> None:
        with open(path, mode, buffering=0) as file:
            while not stop.is_set():
                if mode == "r+b":
                    file.seek(0)
                file.write(b"more")
                started.set()

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    try:
        with pytest.raises(ContentRefused, match="changed while it was read"):
            digest_path(path)
    finally:
        stop.set()
        writer.join()
