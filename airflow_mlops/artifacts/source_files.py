# SPDX-License-Identifier: Apache-2.0
"""
Which files of a source folder are step code: all but what git would ignore, what ``.mlopsignore`` names, and what is
never code.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import ContentRefused, SourceRefused, listed
from airflow_mlops.artifacts.scan import check_name

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

ALWAYS_IGNORED = (
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", "node_modules", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".ipynb_checkpoints", ".DS_Store", ".tox",
)  # fmt: skip
IGNORE_FILES = (".gitignore", ".mlopsignore")
MAX_FILES = 10_000
MAX_SIZE = 64 << 20
"""Bytes of a source folder: it is code, and it is copied for each attempt."""

_MAX_PATTERNS = 1 << 20
"""Bytes of a file with patterns."""

Rules = Sequence[tuple[str, "GitIgnoreSpec"]]


def source_files(folder: Path) -> dict[str, int]:
    """
    Sizes of the files of a source folder by their paths, in the order of the paths' UTF-8 bytes.

    A folder's own ignore files count for what is below it, and come after those above it, as git has it. A link to a
    file inside the folder counts as that file.

    :raises SourceRefused: if there is too much, or a link to a folder or out of it, or what is no file
    """
    if not folder.is_dir():
        raise SourceRefused(f"source folder {folder} does not exist; expected the folder with the step code")
    found: dict[str, int] = {}
    folders: list[tuple[str, Rules]] = [("", ())]
    while folders:
        prefix, rules = folders.pop()
        with os.scandir(folder / prefix) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        rules = (*rules, *_rules_in(prefix, entries))
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            path = prefix + entry.name
            if _ignored(path + "/" if is_folder else path, rules):
                continue
            if is_folder:
                folders.append((path + "/", rules))
            else:
                found[path] = _size_of_file(folder, path)
                _check_caps(folder, found)
    return dict(sorted(found.items(), key=lambda item: item[0].encode()))


def _rules_in(prefix: str, entries: Iterable[os.DirEntry[str]]) -> Rules:
    return [
        (prefix, _patterns(_lines(entry)))
        for name in IGNORE_FILES
        for entry in entries
        if entry.name == name and entry.is_file(follow_symlinks=False)
    ]


def _lines(entry: os.DirEntry[str]) -> list[str]:
    with open(entry.path, "rb") as file:
        data = file.read(_MAX_PATTERNS + 1)
    if len(data) > _MAX_PATTERNS:
        raise SourceRefused(f"{entry.path} is larger than {_MAX_PATTERNS} bytes; expected a list of patterns")
    return data.decode("utf-8", "replace").splitlines()


def _patterns(lines: Iterable[str]) -> GitIgnoreSpec:
    import pathspec

    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise SourceRefused(f"a pattern of an ignore file is malformed: {error}; mend or remove it") from error


def _ignored(path: str, rules: Rules) -> bool:
    if _always_ignored().match_file(path):
        return True
    ignored = False
    for prefix, spec in rules:
        verdict = spec.check_file(path[len(prefix) :]).include
        if verdict is not None:
            ignored = verdict
    return ignored


def _always_ignored() -> GitIgnoreSpec:
    global _fixed_rules  # noqa: PLW0603 - made once, and not before it is needed: pathspec takes its time to import
    if _fixed_rules is None:
        _fixed_rules = _patterns(ALWAYS_IGNORED)
    return _fixed_rules


_fixed_rules: GitIgnoreSpec | None = None


def _size_of_file(folder: Path, name: str) -> int:
    path = folder / name
    try:
        check_name(name, folder)
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise SourceRefused(
                f"{path} is a link that leads out of the source folder; copy the file, or list it in .mlopsignore"
            )
        status = path.stat()
    except ContentRefused as error:
        raise SourceRefused(f"source {error}, or list it in .mlopsignore") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, in Python before 3.13
        raise SourceRefused(f"{path} cannot be read: {error}; mend it, or list it in .mlopsignore") from error
    if stat.S_ISDIR(status.st_mode):
        raise SourceRefused(f"{path} is a link to a folder; copy the folder, or list it in .mlopsignore")
    if not stat.S_ISREG(status.st_mode):
        raise SourceRefused(f"{path} is no regular file; remove it, or list it in .mlopsignore")
    return status.st_size


def _check_caps(folder: Path, sizes: dict[str, int]) -> None:
    if len(sizes) > MAX_FILES:
        tops = Counter(name.split("/")[0] + ("/" if "/" in name else "") for name in sizes).most_common(5)
        raise SourceRefused(
            f"source folder {folder} holds more than {MAX_FILES} files, most of them in "
            f"{listed([f'{name} ({count})' for name, count in tops], 'folder')}. {_REMEDY}"
        )
    # Adding up again for each file would take quadratic time.
    if sizes[next(reversed(sizes))] > MAX_SIZE or (len(sizes) % 256 == 0 and sum(sizes.values()) > MAX_SIZE):
        raise too_large(folder, sizes)


def too_large(folder: Path, sizes: dict[str, int]) -> SourceRefused:
    """The error for a folder with too many bytes; it names the largest files."""
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    shown = listed([f"{name} ({sizes[name]} bytes)" for name in largest], "file")
    return SourceRefused(
        f"source folder {folder} holds more than the {MAX_SIZE} bytes that step code may have. The largest files: "
        f"{shown}. {_REMEDY}"
    )


_REMEDY = "List what is no code in .mlopsignore, and hand data on as artifacts"
