# SPDX-License-Identifier: Apache-2.0
"""The commit that a file was checked out from, as git itself tells it, in every form of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from airflow_mlops.operators.git_commit import commit_of


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "dags").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "dags" / "a.py").write_text("1")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def test_a_branch_a_detached_head_packed_references_and_a_worktree(checkout: Path, tmp_path: Path) -> None:
    file = checkout / "dags" / "a.py"
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit_of(file) == commit
    git(checkout, "pack-refs", "--all")
    assert commit_of(file) == commit
    git(checkout, "worktree", "add", "-q", "-b", "side/way", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "two")
    assert commit_of(tmp_path / "tree" / "dags" / "a.py") == git(tmp_path / "tree", "rev-parse", "HEAD") != commit
    git(checkout, "checkout", "-q", "--detach", commit)
    assert commit_of(file) == commit


def test_outside_of_git_and_where_its_files_are_broken_there_is_none(checkout: Path, tmp_path: Path) -> None:
    assert commit_of(tmp_path / "elsewhere" / "a.py") is None
    for head in ("", "ref: refs/heads/../../secret", "ref: refs/heads/none", "x" * 40, "\xff" * 10):
        (checkout / ".git" / "HEAD").write_text(head)
        assert commit_of(checkout / "dags" / "a.py") is None
