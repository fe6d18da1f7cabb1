# SPDX-License-Identifier: Apache-2.0
"""
The versions of one model in a store: their records, and their files.

A version's record is what makes it one. Files are copied before that, into a folder with a random name that nobody else
writes to, and read again there; the record names the folder. So files that were copied by half, or by a writer that
another one overtook, belong to no version, and are deleted when the same content is registered the next time.

``files/<digest>/<turn>/<random>/`` holds the files. The turn counts the versions that had the same content before: two
of them never live at the same time, so what lies under an earlier turn, or beside the folder of the version whose turn
it is, is nobody's, and no writer who was slow can make it a version any more.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import ArtifactError, NotFound, ReferenceRefused, StoreFailed
from airflow_mlops.artifacts.file_store import protect
from airflow_mlops.artifacts.layout import encode_component
from airflow_mlops.registry.errors import RegistrationRefused
from airflow_mlops.registry.index import DigestIndex
from airflow_mlops.registry.model import ModelVersion, Registered
from airflow_mlops.registry.reading import numbers_in, read_all
from airflow_mlops.registry.records import SEGMENT, VersionRecord, damaged, read_record
from airflow_mlops.spec.model_names import shown

if TYPE_CHECKING:
    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.artifacts.digests import Digested
    from airflow_mlops.artifacts.store import Store

MODEL = "model"
"""What a model is called that brings no name of its own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """
    A version as it lies in the store.

    :param folder: of its files, within the model's
    """

    version: ModelVersion
    folder: str


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What a writer saw when it looked.

    :param same: all versions there ever were with its content, the oldest first
    :param newest: the highest number that is taken; 0 before the first version
    """

    same: list[Stored]
    newest: int

    @property
    def turn(self) -> int:
        """The turn of the next version with that content."""
        return len(self.same)


@dataclass(frozen=True, slots=True)
class Copied:
    """
    Files that are no version yet.

    :param folder: where they lie, within the model's folder
    :param key: the file or folder that is the model
    """

    folder: str
    key: str
    turn: int
    found: Digested


class Shelf:
    """
    The versions of one model.

    :param key: the model's folder
    :param name: its name
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        self._store = store
        self._key = key
        self._name = name

    def numbers(self) -> list[int]:
        """Numbers of all versions there ever were, in order."""
        return numbers_in(self._store, f"{self._key}/versions")

    def all(self) -> list[Stored]:
        """
        All versions there ever were, the oldest first.

        :raises DocumentInvalid: if a record is damaged
        """
        return read_all(self._store, self.read, self.numbers())

    def look(self, digest: str, known: Iterable[int] = ()) -> Seen:
        """
        Look for some content among all versions there ever were. Reads one document for each hundred of them, and the
        records of those that are left.

        :param known: numbers that are known to be taken, although a listing may not show them yet
        :raises DocumentInvalid: if a record is damaged
        """
        numbers = sorted({*known, *self.numbers()})
        if len(numbers) < SEGMENT:
            return Seen(
                [found for found in read_all(self._store, self.read, numbers) if found.version.digest == digest],
                max(numbers, default=0),
            )
        index = DigestIndex(self._store, f"{self._key}/index", self._name)
        indexed = index.digests()
        others = read_all(self._store, self.read, [number for number in numbers if number not in indexed])
        index.add({found.version.version: found.version.digest for found in others})
        listed = read_all(self._store, self.read, [number for number, has in indexed.items() if has == digest])
        same = [found for found in (*listed, *others) if found.version.digest == digest]
        return Seen(sorted(same, key=lambda found: found.version.version), numbers[-1])

    def name_in(self, number: int) -> str:
        """
        The model's name by one of its records, where it is not known.

        :raises DocumentInvalid: if the record is damaged
        """
        key = self._record_key(number)
        name = read_record(self._store, key, VersionRecord).model.name
        if encode_component(name) != self._key.rpartition("/")[2]:
            raise damaged(self._store, key, f"is the record of a version of {shown(name)}")
        return name

    def read(self, number: int) -> Stored:
        """
        One version, be it deleted or not.

        :raises NotFound: if there is none of that number
        :raises DocumentInvalid: if its record is damaged
        """
        key = self._record_key(number)
        record = read_record(self._store, key, VersionRecord)
        model = record.model
        if (model.name, model.version) != (self._name, number):
            raise damaged(self._store, key, f"is the record of version {model.version} of {shown(model.name)}")
        if record.folder.split("/")[1] != _digest_folder(model.digest):
            raise damaged(self._store, key, f"has the digest {model.digest} and files of another one: {record.folder}")
        try:
            version = self._placed(record)
            version.as_artifact()
        except ReferenceRefused as error:
            raise damaged(self._store, key, str(error)) from None
        return Stored(version, record.folder)

    def _placed(self, record: VersionRecord) -> ModelVersion:
        key = f"{self._key}/{record.folder}/{record.model.file or MODEL}"
        return ModelVersion(**record.model.model_dump(), uri=self._store.uri(key))

    def put(self, copied: Copied, version: Registered) -> Stored | None:
        """
        Make files a version.

        :return: the version; ``None`` if its number is taken
        :raises DocumentInvalid: before anything is written, if it is more than a record takes
        """
        record = VersionRecord(folder=copied.folder, model=version)
        if not self._store.put_if_absent(self._record_key(version.version), record.to_bytes()):
            return None
        return Stored(self._placed(record), copied.folder)

    def copy(self, artifact: Artifact, local: Path | None, turn: int) -> Copied:
        """
        Copy a model's files and make sure that they are what its digest says. If not, nothing stays of them.

        :param local: where it lies on this machine, if not in the store
        :raises RegistrationRefused: if they are something else
        """
        folder = f"files/{_digest_folder(artifact.digest)}/{turn}/{secrets.token_hex(8)}"
        key = f"{self._key}/{folder}/{artifact.file or MODEL}"
        try:
            if local is not None:
                self._upload(local, key)
            else:
                self._store.copy(self._source(artifact), key)
            found = self._store.digest(key)
            if found.digest != artifact.digest:
                raise RegistrationRefused(
                    f"{local or artifact.uri} is {found.digest}, and not {artifact.digest} as its reference says: it was "
                    "changed since; make it again"
                )
            self._protect(key)
        except ArtifactError:
            # What went wrong says more than that its remains cannot be removed.
            with suppress(ArtifactError):
                self.discard(folder)
            raise
        return Copied(folder, key, turn, found)

    def _upload(self, local: Path, key: str) -> None:
        if not os.path.lexists(local):
            raise RegistrationRefused(f"{local} is not there; expected the file or folder that is the model")
        self._store.upload(local, key)

    def _protect(self, key: str) -> None:
        """Whoever is given the file itself, and not a copy, cannot change it by mistake."""
        place = self._store.local_path(key)
        if place is None:
            return
        try:
            protect(place)
        except OSError as error:
            raise StoreFailed(f"cannot protect {self._store.uri(key)}: {error.strerror}; try again") from error

    def _source(self, artifact: Artifact) -> str:
        try:
            return self._store.key(artifact.uri)
        except ReferenceRefused:
            raise RegistrationRefused(
                f"{artifact.uri} does not lie in the store {self._store.url}, and is not fetched from elsewhere; give a "
                "local copy of it"
            ) from None

    def discard(self, folder: str) -> None:
        """Delete files that are no version's, and will not be."""
        self._store.delete_tree(f"{self._key}/{folder}")

    def clear(self, stored: Stored) -> None:
        """Delete the files of a version that was deleted, and what lies beside them."""
        self.discard(stored.folder.rpartition("/")[0])

    def tidy(self, stored: Stored) -> None:
        """
        Delete what others, who were killed or too late, have left of the same content as a version's that lives. What
        cannot be deleted now, such as what one of them still writes to, is left to the next registration.
        """
        with suppress(StoreFailed):
            self._tidy(stored)

    def _tidy(self, stored: Stored) -> None:
        turn_folder, _, own = stored.folder.rpartition("/")
        digest_folder, _, turn = turn_folder.rpartition("/")
        for name in self._names_in(digest_folder):
            # Later turns belong to those who register it again once this version is deleted.
            if name.isascii() and name.isdigit() and int(name) < int(turn):
                self.discard(f"{digest_folder}/{name}")
        for name in self._names_in(turn_folder):
            if name != own:
                self.discard(f"{turn_folder}/{name}")

    def _names_in(self, folder: str) -> list[str]:
        return [key.rpartition("/")[2] for key in self._store.list(f"{self._key}/{folder}")]

    def read_file(self, copied: Copied, name: str, limit: int) -> bytes | None:
        """A small file of a model that is a folder; ``None`` if it has none of that name."""
        if not copied.found.is_tree or name not in {file.name for file in copied.found.files}:
            return None
        try:
            return self._store.read(f"{copied.key}/{name}", limit)
        except NotFound:
            return None

    def _record_key(self, number: int) -> str:
        return f"{self._key}/versions/{number}.json"


def _digest_folder(digest: str) -> str:
    return digest.replace(":", "-")
