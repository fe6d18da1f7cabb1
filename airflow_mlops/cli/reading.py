# SPDX-License-Identifier: Apache-2.0
"""
``airflow_mlops.read``: in a notebook, what a step of some run has made.

It asks the store and no database, so it works wherever the store can be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts.errors import NotFound, ReferenceRefused

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Manifest, Place, Store


def read(
    run: str,
    step: str,
    output: str,
    *,
    pipeline: str | None = None,
    store: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    instance: str | None = None,
    map_index: int = -1,
) -> Any:
    """
    Read what a step has made.

    Of a step that was cleared and ran again, it is what it committed last. Content is compared with its digest.

    :param run: a local run, as ``airflow-mlops artifacts`` takes it (``last``, a pipeline, part of a name); with ``pipeline``, a run's whole id
    :param step: name of the step, ``group/step`` inside a group
    :param output: name of the output
    :param pipeline: id of the DAG, for a run of an Airflow deployment
    :param store: URL of that deployment's store; default ``[mlops] store`` of the Airflow that is configured here
    :param storage_options: keyword arguments of the store's file system; default what ``[mlops]`` says, where ``store`` is not named
    :param instance: id of that deployment, ``[mlops] instance``; found out by itself where the store is a folder
    :param map_index: which instance of a mapped task
    :return: the value of a parameter; the content of a metrics output, a dictionary; of any other artifact the path of the file or folder:
        where it lies if the store is a folder, else a copy, which is kept under its digest in ``~/.airflow-mlops/cache``. Do not write to it
    :raises NotFound: if there is no such run, step or output
    :raises ReferenceRefused: if an artifact is not what was committed, or lies outside the store
    :raises ArtifactError: if the store cannot be read
    """
    task_id = step.replace("/", ".")
    if pipeline is None:
        opened, place = _local(run, task_id, map_index)
    else:
        opened, place = _deployed(run, task_id, map_index, pipeline, store, storage_options, instance)
    manifest = _manifest(opened, place)
    if output in manifest.parameters:
        return manifest.parameters[output]
    if output not in manifest.artifacts:
        made = ", ".join([*manifest.artifacts, *manifest.parameters]) or "nothing"
        raise NotFound(f"step '{step}' of run '{place.run}' has no output '{output}'; it made {made}")
    artifact = manifest.artifact(output)
    path = _fetched(opened, artifact)
    if artifact.type == "metrics" and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return path


def _local(run: str, task_id: str, map_index: int) -> tuple[Store, Place]:
    """The store and place of a step of a run of one's own."""
    from airflow_mlops.cli.errors import CommandError
    from airflow_mlops.cli.records import find_run, read_order
    from airflow_mlops.cli.results import place_of
    from airflow_mlops.cli.session import open_store

    try:
        order = read_order(find_run(run).path)
        return open_store(order.store), place_of(order, task_id, map_index)
    except CommandError as error:
        raise NotFound(f"{error}; for a run of an Airflow deployment, name its pipeline=") from None


def _deployed(
    run: str,
    task_id: str,
    map_index: int,
    pipeline: str,
    url: str | None,
    storage_options: Mapping[str, Any] | None,
    instance: str | None,
) -> tuple[Store, Place]:
    """The store and place of a step of a deployment's run."""
    from airflow_mlops.artifacts import Place, Store, known_instance

    opened: Store | None = None
    if url is None:
        from airflow_mlops.operators.settings import load_settings

        settings = load_settings()
        url = settings.store_url
        instance = settings.instance if instance is None else instance
        if storage_options is None:
            opened = settings.open_store()
    store = opened or Store.open(url, storage_options=dict(storage_options or {}))
    known = known_instance(store, instance)
    if known is None:
        raise NotFound(
            f"the store {store.url} holds nothing yet; expected the one that the deployment's [mlops] store names"
        )
    return store, Place.of_task(known, pipeline, run, task_id, map_index)


def _manifest(store: Store, place: Place) -> Manifest:
    """
    What a step committed last.

    :raises NotFound: if it committed nothing; with the steps or runs that there are
    """
    from airflow_mlops.artifacts.layout import decode_component
    from airflow_mlops.cli.results import read_manifest

    found = read_manifest(store, place)
    if found is not None:
        return found
    above = place.run_key
    what, missing = "steps", f"step '{place.step}' of run '{place.run}' has committed nothing"
    if not store.exists(above):
        above = above.rpartition("/")[0]
        what, missing = "runs", f"pipeline '{place.pipeline}' has no run '{place.run}'"
    names = [decode_component(key.rpartition("/")[2]) for key in store.list(above)]
    there = [name for name in names if name and not name.startswith("_")]
    if what == "steps" and place.step in there:
        indexes = sorted(key.rpartition("/")[2] for key in store.list(place.step_key.rpartition("/")[0]))
        if any(index.isdigit() for index in indexes):
            raise NotFound(
                f"step '{place.step}' of run '{place.run}' is mapped; say which instance by map_index=, of {', '.join(indexes[:20])}"
            )
    raise NotFound(f"{missing} in {store.url}; {what} that are there: {', '.join(there[-10:]) or 'none'}")


def _fetched(store: Store, artifact: Artifact) -> Path:
    """
    An artifact's path on this machine.

    :raises ReferenceRefused: if it was imported from elsewhere, or changed since it was committed
    """
    if not store.contains(artifact.uri):
        raise ReferenceRefused(f"'{artifact.name}' was imported and is not in the store; it lies at {artifact.uri}")
    key = store.key(artifact.uri)
    path = store.local_path(key)
    if path is None:
        return _cached(store, key, artifact)
    if not path.exists():
        raise NotFound(f"{artifact.uri} is gone, although a step committed it")
    _compare(artifact, path)
    return path


def _cached(store: Store, key: str, artifact: Artifact) -> Path:
    import secrets

    from airflow_mlops.artifacts import protect
    from airflow_mlops.artifacts.file_store import remove_tree
    from airflow_mlops.cli.embedded.home import home

    folder = home() / "cache" / artifact.digest.replace(":", "-")
    target = folder / (artifact.file or artifact.name)
    if _holds(artifact, target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{secrets.token_hex(4)}"
    try:
        store.download(key, beside)
        _compare(artifact, beside)
        protect(beside)
        if not _holds(artifact, target):  # another notebook may have been as quick
            remove_tree(target)
            beside.rename(target)
    finally:
        remove_tree(beside)
    return target


def _holds(artifact: Artifact, path: Path) -> bool:
    """Whether a copy is there, and is still what was committed."""
    from airflow_mlops.artifacts import ContentRefused, digest_path

    try:
        return not path.is_symlink() and path.exists() and digest_path(path).digest == artifact.digest
    except (ContentRefused, OSError):
        return False


def _compare(artifact: Artifact, path: Path) -> None:
    from airflow_mlops.artifacts import digest_path

    found = digest_path(path).digest
    if found != artifact.digest:
        raise ReferenceRefused(
            f"{artifact.uri} has digest {found}, but {artifact.digest} was committed: it was changed since"
        )
