# SPDX-License-Identifier: Apache-2.0
"""Listing and reading numbered records: many at the same time where each costs a round trip."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store

_THREADS = 16
_RECORD = re.compile(r"([1-9][0-9]{0,8})\.json")

Read = TypeVar("Read")


def numbers_in(store: Store, key: str) -> list[int]:
    """The numbers of a folder's records, in order. What has no number is none of ours and not looked at."""
    found = (numbered(record.rpartition("/")[2]) for record in store.list(key))
    return sorted(number for number in found if number is not None)


def read_all(store: Store, read: Callable[[int], Read], numbers: Iterable[int]) -> list[Read]:
    """
    Read records in order.

    :param read: reads one
    """
    wanted = list(numbers)
    if len(wanted) < 2 or store.local_path("_") is not None:
        return [read(number) for number in wanted]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="mlops-registry") as pool:
        return list(pool.map(read, wanted))


def numbered(name: str) -> int | None:
    """The number that a document's name holds, as in ``12.json``; ``None`` for every other name."""
    match = _RECORD.fullmatch(name)
    return int(match[1]) if match else None
