# SPDX-License-Identifier: Apache-2.0
"""
The one folder of a user that all embedded runs share: database templates, the runs' folders, the default store, the
instance id.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from airflow_mlops.cli.embedded.model import EmbeddedError

VARIABLE = "AIRFLOW_MLOPS_HOME"


def home() -> Path:
    """
    ``$AIRFLOW_MLOPS_HOME``, else ``~/.airflow-mlops``; made, readable by its user alone, if it is not there.

    :raises EmbeddedError: if it cannot be made
    """
    chosen = os.environ.get(VARIABLE)
    folder = (Path(chosen).expanduser() if chosen else Path.home() / ".airflow-mlops").absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"{folder}: {error.strerror}; expected a folder for local runs, or one that can be made"
            f"; {VARIABLE} names another one"
        ) from error
    return folder


def store_url() -> str:
    """The store of runs that name no other."""
    return (home() / "store").as_uri()


def instance() -> str:
    """
    The instance id of this user's embedded Airflows: one for all homes a run has, so that artifacts of one run are
    known to the next.
    """
    file = home() / "instance"
    if not file.exists():
        put_if_absent(file, f"local-{secrets.token_hex(6)}")
    return file.read_text(encoding="utf-8").strip()


def put(file: Path, text: str) -> None:
    """Write a file for this user alone, so that a reader sees the old text or the new one, never a part."""
    temporary = _written_beside(file, text)
    temporary.replace(file)


def put_if_absent(file: Path, text: str) -> None:
    """As :func:`put`, but whoever came first has won."""
    temporary = _written_beside(file, text)
    with suppress(FileExistsError):
        os.link(temporary, file)
    temporary.unlink()


def _written_beside(file: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    return Path(name)
