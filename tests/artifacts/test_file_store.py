# SPDX-License-Identifier: Apache-2.0
"""A folder as a store: links do not lead out, what is read-only can be deleted, what was interrupted is not seen."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.artifacts import ArtifactError, ReferenceRefused, Store, StoreFailed, protect

NOBODY = 65534


@pytest.fixture
def root(file_store: Store) -> Path:
    folder = Path(file_store.url.removeprefix("file://"))
    folder.mkdir()
    return folder


def test_the_local_path_is_the_file_itself(file_store: Store, root: Path) -> None:
    file_store.put_if_absent("a/b", b"1")
    assert file_store.local_path("a/b") == root / "a" / "b"


def test_opening_makes_nothing(file_store: Store) -> None:
    file_store.exists("a")
    file_store.list("a")
    assert not Path(file_store.url.removeprefix("file://")).exists()


def test_a_linked_folder_does_not_lead_out(file_store: Store, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (root / "run").symlink_to(outside)
    for use in (
        lambda: file_store.read("run/secret", 10),
        lambda: file_store.put_if_absent("run/new", b"1"),
        lambda: file_store.list("run"),
        lambda: file_store.local_path("run/secret"),
        lambda: file_store.delete_tree("run/secret"),
        lambda: file_store.download("run/secret", tmp_path / "got"),
    ):
        with pytest.raises(ReferenceRefused, match="link"):
            use()
    assert sorted(os.listdir(outside)) == ["secret"]


def test_a_linked_document_is_not_read(file_store: Store, root: Path) -> None:
    (root / "real").write_text("{}")
    (root / "link").symlink_to("real")
    with pytest.raises(StoreFailed):
        file_store.read("link", 10)


def test_deleting_a_link_leaves_what_it_points_to(file_store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("k")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "tree").mkdir()
    (root / "tree" / "inner").symlink_to(tmp_path / "outside")
    file_store.delete_tree("link")
    file_store.delete_tree("tree")
    assert not (root / "link").is_symlink()
    assert not (root / "tree").exists()
    assert (tmp_path / "outside" / "kept").exists()


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = Store.open(f"file://{tmp_path}/link")
    assert store.put_if_absent("a", b"1")
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


def test_a_pipe_where_a_document_should_be_does_not_block(file_store: Store, root: Path) -> None:
    os.mkfifo(root / "manifest.json")
    with pytest.raises(StoreFailed, match="not a file"):
        file_store.read("manifest.json", 10)


def test_a_writer_that_dies_leaves_nothing_that_is_seen(file_store: Store, root: Path) -> None:
    """Killed between writing and linking: nothing is there, the remains are not listed, and the next writer wins."""
    script = (
        "import os, sys; from airflow_mlops.artifacts import Store\n"
        "os.link = lambda *a, **k: os._exit(9)\n"
        "Store.open(sys.argv[1]).put_if_absent('gen/manifest.json', b'half')"
    )
    died = subprocess.run([sys.executable, "-c", script, file_store.url], check=False)
    assert died.returncode == 9
    assert len(os.listdir(root / "gen")) == 1
    assert file_store.list("gen") == []
    assert file_store.put_if_absent("gen/manifest.json", b"whole")
    assert file_store.read("gen/manifest.json", 10) == b"whole"


def test_no_temporary_files_stay(file_store: Store, root: Path) -> None:
    file_store.put_if_absent("gen/a", b"1")
    file_store.put_if_absent("gen/a", b"2")
    assert os.listdir(root / "gen") == ["a"]


def test_a_file_system_without_hard_links_is_named(
    file_store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreFailed, match=r"makes no hard links.*\[mlops\] store"):
        file_store.put_if_absent("gen/a", b"1")
    assert os.listdir(root / "gen") == []


def test_protected_files_can_be_read_but_not_written(file_store: Store, root: Path) -> None:
    file_store.put_if_absent("out/deep/a", b"1")
    protect(root / "out")
    assert stat.S_IMODE((root / "out" / "deep" / "a").stat().st_mode) == 0o444
    assert stat.S_IMODE((root / "out" / "deep").stat().st_mode) == 0o555
    assert stat.S_IMODE((root / "out").stat().st_mode) == 0o555


def test_protection_does_not_follow_links(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    (tmp_path / "outside").chmod(0o644)
    (root / "out").mkdir()
    (root / "out" / "link").symlink_to(tmp_path / "outside")
    protect(root / "out")
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o644


def _protect_and_delete(url: str) -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    store = Store.open(url)
    store.put_if_absent("out/deep/a", b"1")
    protect(Path(url.removeprefix("file://")) / "out")
    with pytest.raises(StoreFailed, match=f"let the user with uid {NOBODY} read and write there"):
        store.put_if_absent("out/deep/b", b"1")
    store.delete_tree("out")
    assert not store.exists("out")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_a_user_without_privileges_deletes_its_protected_files(file_store: Store, root: Path, tmp_path: Path) -> None:
    """Root may write and delete anything; so a child does it as somebody else."""
    os.chown(root, NOBODY, NOBODY)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    child = multiprocessing.get_context("fork").Process(target=_protect_and_delete, args=(file_store.url,))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_a_failure_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot write file://.*check that the folder"):
        Store.open(f"file://{tmp_path}/file/store").put_if_absent("a", b"1")
