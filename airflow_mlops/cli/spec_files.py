# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are specs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_SUFFIXES = (".yaml", ".yml")
_SPEC_MARK = re.compile(rb"^[\"']?apiVersion[\"']?\s*:\s*[\"']?mlops/", re.MULTILINE)
_LOOK_AT = 1 << 20
_SKIPPED_FOLDERS = frozenset(("__pycache__", "node_modules", "venv"))


def specs_in(folder: Path) -> Iterator[Path]:
    """All specs in a folder and the folders below it, by name: YAML files that say so."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(parent, name)
            if name.endswith(_SUFFIXES) and _looks_like_a_spec(path):
                yield path


def _looks_like_a_spec(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _SPEC_MARK.search(file.read(_LOOK_AT)) is not None
    except OSError:
        return True  # the reader says what is wrong with it
