# SPDX-License-Identifier: Apache-2.0
"""Which commit of git a file was checked out from, read from the files of git itself: workers seldom have the program."""

from __future__ import annotations

import re
from pathlib import Path

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"ref: (refs/[A-Za-z0-9._/-]{1,500})")
_LIMIT = 4 << 20
"""Bytes of a file of git that is read."""


def commit_of(path: Path) -> str | None:
    """
    The commit that is checked out around a file or folder. Whether the file was changed since, it does not say.

    :return: the hash; ``None`` outside of git, or where its files say nothing
    """
    for folder in path.absolute().parents:
        if (folder / ".git").exists():
            return _head(folder / ".git")
    return None


def _head(git: Path) -> str | None:
    """See gitrepository-layout(5): a worktree's ``.git`` is a file that names its folder, which names the one with the branches."""
    if git.is_file():
        line = _read(git)
        if not line.startswith("gitdir: "):
            return None
        git = (git.parent / line.removeprefix("gitdir: ")).resolve()
    head = _read(git / "HEAD")
    if _HASH.fullmatch(head):
        return head
    match = _REF.fullmatch(head)
    if match is None or ".." in match[1].split("/"):
        return None
    shared = (git / common).resolve() if (common := _read(git / "commondir")) else git
    for home in dict.fromkeys((git, shared)):
        if _HASH.fullmatch(found := _read(home / match[1])):
            return found
    return _packed(shared, match[1])


def _packed(git: Path, ref: str) -> str | None:
    for line in _read(git / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref and _HASH.fullmatch(commit):
            return commit
    return None


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_LIMIT).decode("utf-8", "replace").strip()
    except OSError:
        return ""
