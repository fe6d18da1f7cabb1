# SPDX-License-Identifier: Apache-2.0
"""Read from the store what a page shows. Whatever is there, or is not, ends in a result or in a problem with words."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import IO, TYPE_CHECKING, ParamSpec, TypeVar

from airflow_mlops.artifacts import (
    ArtifactError,
    DocumentInvalid,
    InstanceUnknown,
    NotFound,
    ReferenceRefused,
    Seal,
    Store,
    StoreFailed,
    encode_component,
    find_committed,
    known_instance,
)
from airflow_mlops.artifacts.metrics import fetch_metrics
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.settings import load_settings
from airflow_mlops.ui.problems import Problem

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Manifest, Place
    from airflow_mlops.artifacts.manifest import ManifestArtifact
    from airflow_mlops.artifacts.shapes import AnyShape
    from airflow_mlops.ui.asked import Asked

MAX_DOWNLOAD = 32 << 20
"""Bytes of an artifact that a page offers. The whole of it is in memory while its digest is compared; a command has no such limit."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """
    What a generation committed.

    :param seal: what it was started with; ``None`` if that is not kept, as for a step that runs no program
    """

    store: Store
    place: Place
    manifest: Manifest
    seal: Seal | None

    def key_of(self, artifact: ManifestArtifact) -> str | None:
        """
        Where the store keeps an artifact that a page may hand out: one file of moderate size, with a digest to compare, that this very DAG
        made. Whoever may read this DAG's results need not be allowed to read another's.
        """
        if artifact.is_tree or artifact.size is None or artifact.size > MAX_DOWNLOAD:
            return None
        if not artifact.digest.startswith("sha256:"):
            return None
        try:
            key = self.store.key(artifact.uri)
        except ReferenceRefused:
            return None
        own = f"{encode_component(self.place.instance)}/{encode_component(self.place.pipeline)}/"
        return key if key.startswith(own) else None


def _in_words(read: Callable[P, T]) -> Callable[P, T]:
    """Make problems with words of all that the store, and what is in it, can do to a reader."""

    @wraps(read)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except (ArtifactError, BadStep, OSError) as error:
            log.warning("A page of artifacts cannot be shown: %s", error)
            raise _problem_of(error) from error

    return guarded


def _problem_of(error: Exception) -> Problem:
    """What a page says of a failure."""
    if isinstance(error, StoreFailed | OSError):
        return Problem(
            503,
            "The store cannot be read",
            "This API server cannot read the store of artifacts.",
            (
                "Its log says why.",
                "The API server needs the same [mlops] store and storage_options as the workers, and must reach that place.",
            ),
        )
    if isinstance(error, BadStep | InstanceUnknown):
        return Problem(
            503,
            "The store is not set up here",
            f"The section [mlops] of this API server's configuration cannot be used: {error}",
        )
    if isinstance(error, DocumentInvalid | ReferenceRefused):
        return Problem(
            500,
            "What the store holds is damaged",
            f"What was committed cannot be read: {error}",
            ("It was changed after the step had written it, or something else lies in its place.",),
        )
    return Problem(500, "This cannot be shown", str(error))


@_in_words
def find(asked: Asked) -> Found:
    """
    Look up what was asked for.

    :raises Problem: if it cannot be shown
    """
    settings = load_settings()
    store = settings.open_store()
    instance = known_instance(store, settings.instance)
    if instance is None:
        raise Problem(
            503,
            "This API server does not see the store",
            f"There is nothing of any step in {store.url}, as this API server sees it.",
            (
                "The workers may use another store: [mlops] store must be the same for all of Airflow.",
                "A folder must be on a disk that workers and API server share.",
            ),
        )
    place = asked.place(instance)
    found = find_committed(store, place)
    if found is None:
        raise Problem(
            404,
            "Nothing is committed here",
            f"There is no {store.uri(place.manifest_key)}, where generation {place.generation} of step '{place.step}' would have committed "
            f"its results in run '{place.run}' of '{place.pipeline}'.",
            (
                "The step has not ended well: it still runs, or it failed.",
                "Its run was removed from the store.",
                "The workers use another [mlops] store or instance than this API server.",
            ),
        )
    manifest, _ = found
    return Found(store, place, manifest, _seal(store, place, manifest))


def _seal(store: Store, place: Place, manifest: Manifest) -> Seal | None:
    try:
        data = store.read(place.step_json_key(manifest.attempt), Seal.limit)
    except NotFound:
        return None
    if hashlib.sha256(data).hexdigest() != manifest.seal:
        raise DocumentInvalid(f"{store.uri(place.step_json_key(manifest.attempt))} is not the one that was committed")
    return Seal.from_bytes(data)


def shapes_of(found: Found, name: str) -> tuple[Mapping[str, AnyShape], str]:
    """
    What is to be drawn of a metrics output.

    :return: its shapes, and why there are none, if its file cannot be had
    """
    artifact = found.manifest.artifacts.get(name)
    if artifact is None:
        return {}, ""
    key = found.key_of(artifact)
    if key is None:
        return {}, "Its curves and tables are not shown: pages read the files of the same pipeline alone."
    try:
        return fetch_metrics(found.store, key, artifact.digest).shapes, ""
    except NotFound:
        return {}, f"Its curves and tables cannot be shown: there is no {artifact.uri} any more."
    except DocumentInvalid as error:
        return {}, f"Its curves and tables cannot be shown: {error}."
    except (ArtifactError, OSError) as error:
        log.warning("Metrics cannot be shown: %s", error)
        return {}, "Its curves and tables cannot be shown: the store cannot be read; the API server's log says why."


@_in_words
def fetch(asked: Asked) -> tuple[IO[bytes], ManifestArtifact]:
    """
    Get the content of one artifact, compared with what was committed.

    :return: an open file without a name
    :raises Problem: if it cannot be had, or is not what it was
    """
    found = find(asked)
    artifact = found.manifest.artifacts.get(asked.artifact or "")
    key = found.key_of(artifact) if artifact is not None else None
    if artifact is None or key is None:
        raise Problem(
            404,
            "There is no such file",
            f"'{asked.artifact}' of step '{asked.title}' is no file that this page hands out.",
            (f"Single files of up to {MAX_DOWNLOAD >> 20} MiB are, which the same pipeline has made.",),
        )
    size = artifact.size or 0
    try:
        data = found.store.read(key, size)
    except NotFound:
        raise Problem(404, "The file is gone", f"There is no {artifact.uri} any more.") from None
    if len(data) != size or f"sha256:{hashlib.sha256(data).hexdigest()}" != artifact.digest:
        raise DocumentInvalid(f"{artifact.uri} is not what was committed as '{artifact.name}'")
    # On disk, not in memory, for as long as the slowest reader takes.
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    return file, artifact
