# SPDX-License-Identifier: Apache-2.0
"""
The digests of a model's versions, a hundred in one document: without it, whoever registers would have to read the records
of all versions there ever were to find the same content.

Versions never change, so ``index/<segment>.json``, put if absent once all of its hundred are there, stays true for ever.
It says nothing that the records do not say, and nobody waits for it: where one is missing the records are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_mlops.registry.reading import numbers_in, read_all
from airflow_mlops.registry.records import SEGMENT, IndexRecord, damaged, read_record

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store


class DigestIndex:
    """
    The index of one model.

    :param key: its folder
    :param name: the model's name
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        self._store = store
        self._key = key
        self._name = name

    def digests(self) -> dict[int, str]:
        """
        Digests of the versions that are indexed, by their numbers.

        :raises DocumentInvalid: if a segment is damaged
        """
        segments = numbers_in(self._store, self._key)
        found = read_all(self._store, self._read, segments)
        return {
            (segment - 1) * SEGMENT + place: digest
            for segment, digests in zip(segments, found, strict=True)
            for place, digest in enumerate(digests, 1)
        }

    def add(self, digests: Mapping[int, str]) -> None:
        """
        Add the segments that are complete.

        :param digests: of versions that are not indexed yet, by their numbers
        """
        for segment in sorted({(number - 1) // SEGMENT + 1 for number in digests}):
            numbers = range((segment - 1) * SEGMENT + 1, segment * SEGMENT + 1)
            if all(number in digests for number in numbers):
                record = IndexRecord(model=self._name, segment=segment, digests=[digests[number] for number in numbers])
                self._store.put_if_absent(self._record_key(segment), record.to_bytes())

    def _read(self, segment: int) -> list[str]:
        key = self._record_key(segment)
        record = read_record(self._store, key, IndexRecord)
        if (record.model, record.segment) != (self._name, segment):
            raise damaged(self._store, key, "is the index of other versions")
        return record.digests

    def _record_key(self, segment: int) -> str:
        return f"{self._key}/{segment}.json"
