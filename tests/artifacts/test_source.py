# SPDX-License-Identifier: Apache-2.0
"""Step code: the same code has the same digest, what is no code stays out, and a run has one state of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_mlops.artifacts import (
    ArchiveRefused,
    Place,
    SourceRefused,
    Store,
    pack_source,
    source_files,
    source_for,
    unpack_source,
)
from airflow_mlops.artifacts import source as module


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


CODE = {"fit.py": "print(1)\n", "lib/util.py": "x = 1\n", "lib/ünï.txt": "u", "run.sh": "#!/bin/sh\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = make(tmp_path / "src", CODE)
    (made / "run.sh").chmod(0o755)
    return made


def test_what_is_packed_is_unpacked(folder: Path, tmp_path: Path) -> None:
    packed = pack_source(folder)
    unpack_source(packed.data, tmp_path / "back")
    back = {str(path.relative_to(tmp_path / "back")): path for path in (tmp_path / "back").rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in back.items()} == CODE
    assert os.access(back["run.sh"], os.X_OK)
    assert not back["fit.py"].stat().st_mode & 0o111
    assert set(packed.files) == set(CODE)


def test_the_same_code_has_the_same_digest_wherever_and_whenever(folder: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other" / "place", dict(reversed(CODE.items())))
    (other / "run.sh").chmod(0o744)
    (other / "fit.py").chmod(0o600)
    os.utime(other / "fit.py", (0, 0))
    (other / "empty").mkdir()
    assert pack_source(other).digest == pack_source(folder).digest


def test_other_code_has_another_digest(folder: Path) -> None:
    digests = {pack_source(folder).digest}
    (folder / "fit.py").write_text("print(2)\n")
    digests.add(pack_source(folder).digest)
    (folder / "fit.py").chmod(0o755)
    digests.add(pack_source(folder).digest)
    (folder / "fit.py").rename(folder / "train.py")
    digests.add(pack_source(folder).digest)
    assert len(digests) == 4


def test_what_is_never_code_stays_out(folder: Path) -> None:
    make(folder, {f"{name}/x": "" for name in (".git", ".venv", "lib/__pycache__", "node_modules", ".mypy_cache")})
    make(folder, {"fit.pyc": "", ".gitignore": "!.git\n!__pycache__\n"})
    assert set(pack_source(folder).files) == {*CODE, ".gitignore"}


IGNORED = {
    ".gitignore": "*.csv\n/data/\nbuild\n!keep.csv\n\n# comment\n",
    "a.csv": "",
    "keep.csv": "",
    "data/x": "",
    "lib/data/x": "",
    "lib/build/x": "",
    "lib/.gitignore": "!b.csv\nsecret.txt\n/top\n",
    "lib/b.csv": "",
    "lib/c.csv": "",
    "lib/secret.txt": "",
    "lib/top": "",
    "lib/deep/top": "",
    "lib/deep/secret.txt": "",
    "lib/deep/b.csv": "",
    "secret.txt": "",
}


def test_nested_gitignore_files_mean_what_git_says(folder: Path) -> None:
    make(folder, IGNORED)
    subprocess.run(["git", "init", "-q", folder], check=True)
    listed = subprocess.run(
        ["git", "-C", folder, "-c", "core.quotepath=off", "ls-files", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(pack_source(folder).files) == set(listed.stdout.splitlines())
    assert {"keep.csv", "lib/b.csv", "lib/deep/b.csv", "secret.txt"} <= set(pack_source(folder).files)


def test_mlopsignore_has_the_last_word(folder: Path) -> None:
    make(folder, {"a.csv": "", "b.txt": "", ".gitignore": "*.csv\n", ".mlopsignore": "!a.csv\nb.txt\n.*ignore\n"})
    assert set(pack_source(folder).files) == {*CODE, "a.csv"}


def test_a_link_to_a_file_inside_counts_as_the_file(folder: Path) -> None:
    (folder / "lib" / "fit.py").symlink_to("../fit.py")
    assert pack_source(folder).files["lib/fit.py"] == pack_source(folder).files["fit.py"]


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("/etc/passwd", "leads out"),
        ("../outside", "leads out"),
        ("lib", "link to a folder"),
        (".", "link to a folder"),
        ("nowhere", "cannot be read"),
        ("link", "cannot be read"),
    ],
)
def test_other_links_are_refused_unless_they_are_ignored(folder: Path, target: str, word: str) -> None:
    (folder.parent / "outside").write_text("o")
    (folder / "link").symlink_to(target)
    with pytest.raises(SourceRefused, match=f"{word}.*mlopsignore"):
        pack_source(folder)
    (folder / ".mlopsignore").write_text("link\n.mlopsignore\n")
    assert set(pack_source(folder).files) == set(CODE)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceRefused, match="no regular file"):
        pack_source(folder)


def test_a_name_that_no_archive_takes_is_refused(folder: Path) -> None:
    (folder / "a\nb").touch()
    with pytest.raises(SourceRefused, match="control characters"):
        pack_source(folder)


def test_too_many_bytes_are_refused_and_the_largest_files_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIZE", 1000)
    make(folder, {"weights.bin": "w" * 700, "data.csv": "d" * 600, "small.py": ""})
    with pytest.raises(SourceRefused, match=r"weights\.bin \(700 bytes\), data\.csv \(600 bytes\).*\.mlopsignore"):
        pack_source(folder)


def test_too_many_files_are_refused_and_their_folder_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_FILES", 20)
    make(folder, {f"images/{number}": "" for number in range(50)})
    with pytest.raises(SourceRefused, match=r"more than 20 files, most of them in images/"):
        pack_source(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="does not exist"):
        pack_source(tmp_path / "nowhere")


def test_a_malformed_pattern_is_named(folder: Path) -> None:
    (folder / ".gitignore").write_text("a\n!\n")
    with pytest.raises(SourceRefused, match="pattern"):
        pack_source(folder)


def test_what_was_not_packed_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused):
        unpack_source(b"not a tar" * 100, tmp_path / "back")


def test_one_digest_holds_for_a_run_whatever_happens_to_the_folder(store: Store, place: Place, folder: Path) -> None:
    first = source_for(store, place, folder, fresh=False)
    (folder / "fit.py").write_text("print(2)\n")
    later = source_for(store, Place(place.instance, place.pipeline, place.run, "later", "-", 1), folder, fresh=False)
    shutil.rmtree(folder)
    last = source_for(store, place, folder, fresh=False)
    assert first.digest == later.digest == last.digest
    assert first.data == last.data
    assert later.changed == ()


def test_another_run_packs_for_itself(file_store: Store, place: Place, folder: Path) -> None:
    first = source_for(file_store, place, folder, fresh=False)
    (folder / "fit.py").write_text("print(2)\n")
    other = source_for(file_store, Place(place.instance, place.pipeline, "other", "s", "-", 1), folder, fresh=False)
    assert other.digest != first.digest


def test_a_cleared_step_runs_the_mended_code_and_says_what_changed(store: Store, place: Place, folder: Path) -> None:
    first = source_for(store, place, folder, fresh=False)
    (folder / "fit.py").write_text("print(2)\n")
    (folder / "run.sh").unlink()
    (folder / "new.py").write_text("")
    fresh = source_for(store, place, folder, fresh=True)
    assert fresh.digest == pack_source(folder).digest != first.digest
    assert fresh.changed == ["fit.py", "new.py", "run.sh"]


def test_a_retry_of_a_cleared_step_keeps_the_mended_code(store: Store, place: Place, folder: Path) -> None:
    source_for(store, place, folder, fresh=False)
    (folder / "fit.py").write_text("print(2)\n")
    fresh = source_for(store, place, folder, fresh=True)
    (folder / "fit.py").write_text("print(3)\n")
    retry = source_for(store, place, folder, fresh=False)
    assert retry.digest == fresh.digest
    assert retry.data == fresh.data


def test_clearing_without_a_change_says_nothing(file_store: Store, place: Place, folder: Path) -> None:
    first = source_for(file_store, place, folder, fresh=False)
    again = source_for(file_store, place, folder, fresh=True)
    assert (again.digest, again.changed) == (first.digest, [])
    assert len(file_store.list(place.source_key)) == 2


def test_code_that_was_changed_back_is_current_again(file_store: Store, place: Place, folder: Path) -> None:
    first = source_for(file_store, place, folder, fresh=False)
    (folder / "fit.py").write_text("print(2)\n")
    source_for(file_store, place, folder, fresh=True)
    make(folder, CODE)
    assert source_for(file_store, place, folder, fresh=True).digest == first.digest
    assert source_for(file_store, place, folder, fresh=False).digest == first.digest


def test_steps_that_start_together_run_the_same_code(store: Store, place: Place, tmp_path: Path) -> None:
    """Ten workers, whose folders differ, as during a deployment."""
    folders = [make(tmp_path / str(number), {"fit.py": f"print({number})\n"}) for number in range(10)]
    together = threading.Barrier(10)

    def ask(folder: Path) -> str:
        together.wait()
        return source_for(store, place, folder, fresh=False).digest

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(ask, folders))) == 1


def test_cleared_steps_that_start_together_all_get_what_they_see(
    file_store: Store, place: Place, tmp_path: Path
) -> None:
    folders = [make(tmp_path / str(number), {"fit.py": f"print({number % 2})\n"}) for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda folder: source_for(file_store, place, folder, fresh=True).digest, folders))
    assert found == [pack_source(folder).digest for folder in folders]


def test_a_changed_archive_is_refused(file_store: Store, place: Place, folder: Path) -> None:
    source_for(file_store, place, folder, fresh=False)
    key = next(key for key in file_store.list(place.source_key) if key.endswith(".tar"))
    path = file_store.local_path(key)
    assert path is not None
    path.write_bytes(path.read_bytes().replace(b"print(1)", b"print(9)"))
    with pytest.raises(SourceRefused, match="was changed since it was packed"):
        source_for(file_store, place, folder, fresh=False)
    path.unlink()
    with pytest.raises(SourceRefused, match="cannot be read.*clear the step"):
        source_for(file_store, place, folder, fresh=False)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"digest": "x", "files": {}}', b'{"digest": "sha256:../../x"}'])
def test_a_spoilt_pointer_is_refused(file_store: Store, place: Place, folder: Path, data: bytes) -> None:
    file_store.put_if_absent(f"{place.source_key}/current-1.json", data)
    with pytest.raises(SourceRefused, match=r"current-1\.json"):
        source_for(file_store, place, folder, fresh=False)
