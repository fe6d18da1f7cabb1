# SPDX-License-Identifier: Apache-2.0
"""
Things that take long to build are kept outside the checkout, named by what they are made of, so that a second run is
quick.

The folder is ``$MLOPS_CACHE`` or ``~/.cache/airflow-mlops-tests``. It may be deleted whenever no test runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any


def cache_folder() -> Path:
    """Return the folder of built things; it exists."""
    folder = Path(os.environ.get("MLOPS_CACHE") or Path.home() / ".cache" / "airflow-mlops-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def recipe_hash(recipe: Any) -> str:
    """Return 12 hex digits that change when the recipe, a JSON value, changes."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other test sessions of this user out while a thing called ``name`` is made."""
    with (cache_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def built(name: str, build: Callable[[Path], Path]) -> Path:
    """
    Return the cached thing called ``name``, made first if there is none.

    :param name: file or folder name that holds the hash of its recipe
    :param build: makes the thing in the empty folder that it gets and returns its path; a half-made one is never kept
    """
    target = cache_folder() / name
    with locked(name):
        if not target.exists():
            scratch = Path(mkdtemp(prefix="building-", dir=cache_folder()))
            try:
                build(scratch).rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target
