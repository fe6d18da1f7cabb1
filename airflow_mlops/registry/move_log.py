# SPDX-License-Identifier: Apache-2.0
"""
The log of a model: one document for each move, put if absent under the number after the newest one.

Each holds all that is so since then, so the newest one is the state, and putting the next one is a compare-and-set over
all aliases and deletions at once: whoever looked at an older state finds the number taken.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.registry.model import Move
from airflow_mlops.registry.reading import numbers_in, read_all
from airflow_mlops.registry.records import MoveRecord, damaged, made, read_record
from airflow_mlops.spec.model_names import shown

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store


class MoveLog:
    """
    The log of one model.

    :param key: the folder of the log
    :param name: the model's name
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        self._store = store
        self._key = key
        self._name = name

    def newest(self, at_least: int = 0) -> Move | None:
        """
        The newest move; ``None`` before the first.

        :param at_least: number of a move that is known to be there, although a listing may not show it yet
        :raises DocumentInvalid: if it is damaged
        """
        number = max([at_least, *numbers_in(self._store, self._key)])
        return self.read(number) if number else None

    def read(self, number: int) -> Move:
        """
        One move.

        :raises NotFound: if there is none of that number
        :raises DocumentInvalid: if it is damaged
        """
        key = self._record_key(number)
        record = read_record(self._store, key, MoveRecord)
        if (record.model, record.move.number) != (self._name, number):
            raise damaged(self._store, key, f"is the record of move {record.move.number} of {shown(record.model)}")
        return record.move

    def all(self) -> list[Move]:
        """
        The whole log, the oldest move first.

        :raises DocumentInvalid: if one is damaged, or missing
        """
        found = numbers_in(self._store, self._key)
        if missing := set(range(1, max(found, default=0) + 1)).difference(found):
            raise damaged(self._store, self._record_key(min(missing)), "is missing, although there are later ones")
        return read_all(self._store, self.read, found)

    def append(
        self, last: Move | None, *, by: str, why: str, changed: Mapping[str, int | None], deleted: int | None = None
    ) -> Move | None:
        """
        Add a move.

        :param last: the newest one, as it was looked at
        :param changed: aliases that move, and where to
        :param deleted: version that is deleted
        :return: the move; ``None`` if there is a newer one than ``last``
        :raises RegistrationRefused: if a value is not what a record takes
        """
        aliases = {**(last.aliases if last else {}), **changed}
        gone = last.all_deleted if last else []
        values: dict[str, Any] = {
            "number": (last.number if last else 0) + 1,
            "id": secrets.token_hex(8),
            "changed": dict(changed),
            "deleted": deleted,
            "aliases": {alias: number for alias, number in sorted(aliases.items()) if number is not None},
            "all_deleted": sorted({*gone, deleted} if deleted is not None else gone),
            "by": by,
            "why": why,
            "at": time.time(),
        }
        move: Move = made(Move, values, f"a move of {self._name}")
        key = self._record_key(move.number)
        if self._store.put_if_absent(key, MoveRecord(model=self._name, move=move).to_bytes()):
            return move
        # A client that did not hear the answer asks again, and is told that the number is taken: by itself.
        return move if self.read(move.number).id == move.id else None

    def _record_key(self, number: int) -> str:
        return f"{self._key}/{number}.json"
