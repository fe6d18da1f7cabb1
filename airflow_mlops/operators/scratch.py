# SPDX-License-Identifier: Apache-2.0
"""Where an attempt has its scratch space and its secrets on the worker, and how both are removed. Without Airflow: others need it, too."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from airflow_mlops.artifacts.file_store import remove_tree


def memory_folder(workspace: Path) -> Path:
    """A folder for the secrets of the attempt with a scratch folder, in memory where the system has such a place."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
    base = shared_memory if shared_memory.is_dir() else workspace
    return base / f"{workspace.name}-secrets"


def remove_scratch(workspace: Path) -> None:
    """Remove the scratch folder of an attempt that is over, and its secrets. What cannot be removed stays."""
    remove_secrets(memory_folder(workspace))
    with contextlib.suppress(OSError):
        remove_tree(workspace)


def remove_secrets(folder: Path) -> None:
    """Remove what :func:`write_secrets` wrote."""
    shutil.rmtree(folder, ignore_errors=True)
