# SPDX-License-Identifier: Apache-2.0
"""
The versions of one model on an MLflow server: registered there with tags that lead to their files and records in the store.

A version is made by one request, with all its tags; before that its files were copied and its record was written. MLflow does not mind the same
content twice: of two versions with one digest, the lower number is it, and whoever made the other one takes it back. While it is there, or
stays because its maker was killed, it is looked past.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from airflow_mlops.artifacts.errors import ArtifactError, DocumentInvalid, NotFound, ReferenceRefused, StoreFailed
from airflow_mlops.registry.errors import RegistryBusy
from airflow_mlops.registry.mlflow_server import Missing
from airflow_mlops.registry.model import Described, ModelVersion
from airflow_mlops.registry.reading import read_all
from airflow_mlops.registry.records import FOLDER, RegistryDocument, damaged, made, read_record
from airflow_mlops.registry.registering import check_content, described
from airflow_mlops.registry.shelf import MODEL, Shelf
from airflow_mlops.registry.tries import tries

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.artifacts.store import Store
    from airflow_mlops.registry.mlflow_server import MlflowServer, ServerVersion
    from airflow_mlops.registry.model import Facts
    from airflow_mlops.registry.shelf import Copied

DIGEST_TAG, FOLDER_TAG = "mlops_digest", "mlops_folder"
"""Tags by which a version is one of ours."""

_MAX_TAG, _MAX_SOURCE, _MAX_DESCRIPTION = 1000, 500, 5000
"""Characters. MLflow's databases take no more of a source and a description, but for SQLite; of a tag nobody reads more."""

_TAG = re.compile(r"[A-Za-z0-9_./ -]{1,200}")
_FOLDER = re.compile(FOLDER)

Deleted = Callable[[], Collection[int]]


class MlflowRecord(RegistryDocument):
    """``<folder of the files>.json``: what is known of a version beside its number, which only MLflow gives."""

    title: ClassVar[str] = "the record of a version"
    limit: ClassVar[int] = 1 << 20

    folder: str = Field(pattern=FOLDER, description="Where its files lie within the model's folder")
    model: Described = Field(description="The version")


class MlflowVersions:
    """
    The versions of one model.

    :param key: the model's folder in the store
    :param name: its name
    :param instance: id of the Airflow installation
    """

    def __init__(self, server: MlflowServer, store: Store, key: str, name: str, instance: str) -> None:
        self._server = server
        self._store = store
        self._key = key
        self._name = name
        self._instance = instance
        self._shelf = Shelf(store, key, name)

    def register(
        self, artifact: Artifact, local: Path | None, facts: Facts, by: str, deleted: Deleted
    ) -> tuple[ModelVersion, bool]:
        """
        Make a model a version, unless there is one with its content.

        :param deleted: numbers of versions that are deleted, or being deleted
        :return: the version, and whether it is new
        """
        artifact = check_content(artifact)
        copied: Copied | None = None
        for _ in tries():
            if (first := self._first(artifact.digest, deleted)) is not None:
                own = copied is not None and first.tags[FOLDER_TAG] == copied.folder
                if (found := self._living(first, deleted)) is None:
                    continue
                if copied is not None and not own:
                    self._discard(copied.folder)
                return found, own
            if copied is None:
                copied = self._shelf.copy(artifact, local, 0)
                self._write(copied, artifact, facts, by)
            if not self._create(copied):
                continue
            self._take_back(copied, artifact.digest, deleted)
            if (first := self._first(artifact.digest, deleted)) is not None and first.tags[FOLDER_TAG] == copied.folder:
                if (found := self._living(first, deleted)) is not None:
                    return found, True
        raise RegistryBusy(f"others registered versions of {self._name} at every try; try again")

    def read(self, number: int) -> ModelVersion | None:
        """
        One version; ``None`` if it is none of ours.

        :raises Missing: if there is none of that number
        :raises DocumentInvalid: if its record is damaged
        """
        found = self._server.version(self._name, number)
        return self._read(found) if _is_ours(found) else None

    def all(self, deleted: Deleted) -> list[ModelVersion]:
        """All versions of ours that are not deleted, the oldest first."""
        found = [version for version in self._server.versions(self._name) if _is_ours(version)]
        gone = deleted()
        firsts: dict[str, ServerVersion] = {}
        for version in found:
            if version.number not in gone:
                firsts.setdefault(version.tags[DIGEST_TAG], version)
        by_number = {version.number: version for version in firsts.values()}
        read = read_all(self._store, lambda number: self._living(by_number[number], deleted), sorted(by_number))
        return [version for version in read if version is not None]

    def numbers(self) -> list[int]:
        """Numbers of all versions of ours that MLflow has."""
        return [version.number for version in self._server.versions(self._name) if _is_ours(version)]

    def delete(self, number: int, deleted: Deleted) -> None:
        """
        Delete a version and its files, whatever is there of it.

        :param deleted: numbers of versions that are deleted, or being deleted
        """
        try:
            found = self._server.version(self._name, number)
        except Missing:
            return
        if _is_ours(found) and not self._is_shared(found, deleted):
            self._discard(found.tags[FOLDER_TAG])
        self._server.delete_version(self._name, number)

    def _is_shared(self, version: ServerVersion, deleted: Deleted) -> bool:
        """Whether a version that stays has the same files: a request that was sent twice, or somebody who copied tags."""
        others = self._server.versions(self._name, FOLDER_TAG, version.tags[FOLDER_TAG])
        return bool({found.number for found in others}.difference(deleted(), [version.number]))

    def _first(self, digest: str, deleted: Deleted) -> ServerVersion | None:
        """The version that has some content now. The log is read after MLflow: what MLflow does not show, it cannot delete."""
        same = [found for found in self._same(digest) if _is_ours(found)]
        gone = deleted() if same else ()
        return next((found for found in same if found.number not in gone), None)

    def _same(self, digest: str) -> list[ServerVersion]:
        return self._server.versions(self._name, DIGEST_TAG, digest)

    def _write(self, copied: Copied, artifact: Artifact, facts: Facts, by: str) -> None:
        """Write the record, or leave nothing."""
        try:
            values = described(self._shelf, copied, self._name, artifact, facts, by)
            model: Described = made(Described, values, f"a version of {self._name}")
            record = MlflowRecord(folder=copied.folder, model=model)
            self._store.put_if_absent(self._record_key(copied.folder), record.to_bytes())
        except ArtifactError:
            self._discard(copied.folder)
            raise

    def _create(self, copied: Copied) -> bool:
        """Make a version of copied files; ``False`` if somebody has deleted the model meanwhile."""
        record = self._record(copied.folder)
        text = record.model.description
        text = text if len(text) <= _MAX_DESCRIPTION else f"{text[: _MAX_DESCRIPTION - 1]}…"
        try:
            self._server.create_model(self._name)
            self._server.create_version(self._name, self._source(copied), self._tags(record), text)
        except Missing:
            return False
        except StoreFailed:
            raise  # it may have been made: the files stay
        except ArtifactError:
            self._discard(copied.folder)
            raise
        return True

    def _source(self, copied: Copied) -> str:
        """Where MLflow's own programs find the files, if they can read the store."""
        uri = self._store.uri(copied.key)
        if len(uri) > _MAX_SOURCE - len("mlops-"):
            uri = self._store.uri(f"{self._key}/{copied.folder}")
        # A server takes no folder of its own machine for a source, and none of another one means anything to it.
        return f"mlops-{uri}" if uri.startswith("file:") else uri

    def _tags(self, record: MlflowRecord) -> dict[str, str]:
        model, origin = record.model, record.model.origin
        told: dict[str, Any] = {"mlops_by": model.registered_by, "mlops_git_commit": model.git_commit}
        if origin is not None:
            told |= {"mlops_pipeline": origin.pipeline, "mlops_run": origin.run, "mlops_step": origin.step}
        told |= {f"mlops_metric.{name}": f"{value:.6g}" for name, value in list(model.metrics.items())[:50]}
        shown = {name: str(value)[:_MAX_TAG] for name, value in told.items() if value and _TAG.fullmatch(name)}
        return {
            **shown,
            DIGEST_TAG: model.digest,
            FOLDER_TAG: record.folder,
            "mlops_instance": self._instance,
        }

    def _take_back(self, copied: Copied, digest: str, deleted: Deleted) -> None:
        """Delete what was made of these files, but for the version with that content; also where a request was sent twice."""
        first = self._first(digest, deleted)
        own = [found for found in self._same(digest) if found.tags.get(FOLDER_TAG) == copied.folder]
        for found in own:
            if first is None or found.number != first.number:
                self._server.delete_version(self._name, found.number)

    def _living(self, found: ServerVersion, deleted: Deleted) -> ModelVersion | None:
        """A version; ``None`` if it was deleted while it was read."""
        try:
            return self._read(found)
        except DocumentInvalid:
            if found.number in deleted():
                return None
            raise

    def _read(self, found: ServerVersion) -> ModelVersion:
        folder = found.tags[FOLDER_TAG]
        record = self._record(folder, found.number)
        model = record.model
        key = self._record_key(folder)
        if (model.name, model.digest) != (self._name, found.tags[DIGEST_TAG]):
            raise damaged(
                self._store, key, f"is the record of another model than version {found.number} of {self._name}"
            )
        uri = self._store.uri(f"{self._key}/{folder}/{model.file or MODEL}")
        try:
            version = ModelVersion(**model.model_dump(), version=found.number, uri=uri)
            version.as_artifact()
        except ReferenceRefused as error:
            raise damaged(self._store, key, str(error)) from None
        return version

    def _record(self, folder: str, number: int | None = None) -> MlflowRecord:
        key = self._record_key(folder)
        try:
            record = read_record(self._store, key, MlflowRecord)
        except NotFound:
            named = f", although the tags of version {number} of {self._name} name it in MLflow" if number else ""
            raise damaged(self._store, key, f"is missing{named}") from None
        if record.folder != folder or record.model.digest.replace(":", "-") != folder.split("/")[1]:
            raise damaged(self._store, key, f"is the record of files in {record.folder}")
        return record

    def _record_key(self, folder: str) -> str:
        return f"{self._key}/{folder}.json"

    def _discard(self, folder: str) -> None:
        self._shelf.discard(folder)
        self._store.delete_tree(self._record_key(folder))


def _is_ours(version: ServerVersion) -> bool:
    """Whether a version has files in the store. What MLflow has of it is checked here, and the record where it is read."""
    return DIGEST_TAG in version.tags and _FOLDER.fullmatch(version.tags.get(FOLDER_TAG, "")) is not None
