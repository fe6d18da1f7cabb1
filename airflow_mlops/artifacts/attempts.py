# SPDX-License-Identifier: Apache-2.0
"""
The attempts of a generation that have a folder in the store, and which of them are kept for a person to look at.

A note beside an attempt's seal, ``kept.json``, says until when.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import DocumentInvalid, NotFound

if TYPE_CHECKING:
    from airflow_mlops.artifacts.layout import Place
    from airflow_mlops.artifacts.store import Store

KEPT = "kept.json"

_ATTEMPT = re.compile(r"[0-9a-f]{12}")
_NOTE_LIMIT = 4096


def attempts_of(store: Store, place: Place) -> list[str]:
    """
    Ids of the attempts of a generation that have a folder.

    :raises StoreFailed: if the store cannot be read
    """
    names = (key.rpartition("/")[2] for key in store.list(place.generation_key))
    return [name for name in names if _ATTEMPT.fullmatch(name)]


def is_kept(store: Store, place: Place, attempt_id: str) -> bool:
    """
    Whether what an attempt left is to be kept still.

    :raises StoreFailed: if the store cannot be read, which says nothing
    """
    try:
        note = json.loads(store.read(f"{place.attempt_key(attempt_id)}/{KEPT}", _NOTE_LIMIT))
        return bool(time.time() < float(note["until"]))
    except NotFound:
        return False
    except (DocumentInvalid, ValueError, TypeError, KeyError):
        return False  # a note that nobody of us wrote


def was_kept(store: Store, place: Place, attempt_id: str) -> bool:
    """Whether what an attempt left is, or was, to be kept."""
    return store.exists(f"{place.attempt_key(attempt_id)}/{KEPT}")
