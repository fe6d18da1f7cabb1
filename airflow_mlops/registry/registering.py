# SPDX-License-Identifier: Apache-2.0
"""
One registration in a registry of files, against others at the same time and on after one that was killed.

Its two rules: the same content is one version as long as that lives, and a number that is put belongs to one content.
They hold because the number after the newest is put if absent: whoever has not seen a version finds its number taken.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.artifact import Artifact
from airflow_mlops.artifacts.errors import ArtifactError, DocumentInvalid
from airflow_mlops.registry.errors import RegistrationRefused, RegistryBusy
from airflow_mlops.registry.mlflow_format import FILE, LIMIT, MlflowFacts, read_mlmodel
from airflow_mlops.registry.model import Facts, ModelVersion, Registered
from airflow_mlops.registry.records import made
from airflow_mlops.registry.tries import tries
from airflow_mlops.spec.model_names import MAX_NUMBER

if TYPE_CHECKING:
    from airflow_mlops.registry.move_log import MoveLog
    from airflow_mlops.registry.shelf import Copied, Seen, Shelf, Stored


class Registering:
    """
    Registers a model.

    :param name: the model's name
    :param local: where it lies on this machine, if not in the store
    :param by: who does it
    """

    def __init__(
        self, shelf: Shelf, log: MoveLog, name: str, artifact: Artifact, local: Path | None, facts: Facts, by: str
    ) -> None:
        self._shelf = shelf
        self._log = log
        self._name = name
        self._artifact = check_content(artifact)
        self._local = local
        self._facts = facts
        self._by = by
        self._copied: Copied | None = None

    def run(self) -> tuple[ModelVersion, bool]:
        """
        Register it.

        :return: the version, and whether it is new
        :raises RegistrationRefused: if it is not what its digest says, or a fact is not what a record takes
        :raises RegistryBusy: if others were faster at every try
        """
        taken: set[int] = set()
        for _ in tries():
            seen = self._shelf.look(self._artifact.digest, taken)
            if (living := self._living(seen)) is not None:
                return self._there_is(living)
            try:
                copied = self._copy(seen.turn)
            except ArtifactError:
                if self._overtaken(seen):
                    continue
                raise
            number = seen.newest + 1
            if (new := self._put(number, copied)) is not None:
                self._shelf.tidy(new)
                return new.version, True
            taken.add(number)
        raise RegistryBusy(f"others registered versions of {self._name} at every try; try again")

    def _living(self, seen: Seen) -> Stored | None:
        """The version that has the content now. The log is read after the records: what they do not show, it cannot delete."""
        if not seen.same:
            return None
        last = self._log.newest()
        gone = last.all_deleted if last else []
        return next((found for found in seen.same if found.version.version not in gone), None)

    def _there_is(self, living: Stored) -> tuple[ModelVersion, bool]:
        own = self._copied is not None and self._copied.folder == living.folder
        self._shelf.tidy(living)
        # A client that did not hear the answer asks again, and is told that the number is taken: by itself.
        return living.version, own

    def _copy(self, turn: int) -> Copied:
        if self._copied is not None and self._copied.turn != turn:
            self._shelf.discard(self._copied.folder)
            self._copied = None
        if self._copied is None:
            self._copied = self._shelf.copy(self._artifact, self._local, turn)
        return self._copied

    def _put(self, number: int, copied: Copied) -> Stored | None:
        try:
            return self._shelf.put(copied, self._version(number, copied))
        except (RegistrationRefused, DocumentInvalid):
            # No record was sent: the files are nobody's. After any other failure it may have been.
            self._shelf.discard(copied.folder)
            raise

    def _overtaken(self, seen: Seen) -> bool:
        """Whether somebody else has registered the content meanwhile, and tidied away what this one was copying."""
        return self._shelf.look(self._artifact.digest).turn != seen.turn

    def _version(self, number: int, copied: Copied) -> Registered:
        if number > MAX_NUMBER:
            raise RegistrationRefused(
                f"{self._name} has {MAX_NUMBER} versions, the most there can be; use another name"
            )
        told = self._told(copied)
        values: dict[str, Any] = {
            **self._facts.model_dump(),
            "name": self._name,
            "version": number,
            "digest": copied.found.digest,
            "size": copied.found.size,
            "is_tree": copied.found.is_tree,
            "file": self._artifact.file,
            "registered_at": time.time(),
            "registered_by": self._by,
            "remarks": list(told.remarks),
        }
        if self._facts.signature is None:
            values["signature"] = told.signature
        if self._facts.input_example is None:
            values["input_example"] = told.input_example
        version: Registered = made(Registered, values, f"a version of {self._name}")
        return version

    def _told(self, copied: Copied) -> MlflowFacts:
        """What the model itself says."""
        try:
            data = self._shelf.read_file(copied, FILE, LIMIT)
        except DocumentInvalid as error:
            return MlflowFacts(remarks=(str(error),))
        return MlflowFacts() if data is None else read_mlmodel(data, {file.name for file in copied.found.files})


def check_content(artifact: Artifact) -> Artifact:
    """
    Check that an artifact is a model that can be told from others by its digest.

    :raises ReferenceRefused: if it is no artifact
    :raises RegistrationRefused: if it is something else, or nobody looked at its content
    """
    artifact = Artifact.from_json(artifact.to_json())
    if artifact.type != "model":
        raise RegistrationRefused(f"{artifact.uri} is of type {artifact.type}; expected a model: declare it as one")
    if not artifact.digest.startswith(("sha256:", "sha256-tree:")):
        raise RegistrationRefused(
            f"{artifact.uri} has the digest '{artifact.digest}', which does not say what it is; expected one of its "
            "content: import it with digest: content"
        )
    return artifact
