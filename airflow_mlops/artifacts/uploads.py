# SPDX-License-Identifier: Apache-2.0
"""
Collect what a program wrote where its files never were on this machine: something beside the program has put them into the store, and a
record of them last of all.

The record comes from a container of the deployment's own (``stager/``), which had read every file; it is checked for form all the same. Small
documents are read from the store and judged here, as anywhere else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from airflow_mlops.artifacts.digests import Digested, FileDigest, tree_digest
from airflow_mlops.artifacts.layout import OUTPUTS
from airflow_mlops.artifacts.manifest import Document, OutputFile
from airflow_mlops.artifacts.metrics import MAX_METRICS, parse_metrics
from airflow_mlops.artifacts.outputs import (
    EMPTY_FOLDER,
    Collected,
    NotWritten,
    gathered,
    listed_names,
    not_a_file,
    not_written,
)
from airflow_mlops.artifacts.parameters import MAX_PARAMETER, parse_parameter

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store
    from airflow_mlops.spec.parts import Output

RECORD = "uploaded.json"
"""Beside an attempt's seal: what was put into its folder when its program had ended."""


class UploadedOutput(BaseModel):
    """One of three: files, the names of what lay beside the place where nothing was, or why it is not taken."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    tree: bool = Field(default=False, description="Whether it is a folder")
    files: list[OutputFile] | None = Field(default=None, description="Its files; a lone one has an empty path")
    missing: list[Annotated[str, Field(max_length=4096)]] | None = Field(default=None, description="What lay beside it")
    refused: str | None = Field(default=None, description="Why it is not taken")


class UploadRecord(Document):
    """``uploaded.json``: what was put into the store of an attempt's outputs. It says nothing of how the program ended."""

    title: ClassVar[str] = RECORD
    limit: ClassVar[int] = 256 << 20

    outputs: dict[str, UploadedOutput] = Field(description="By name")


def collect_uploaded(store: Store, attempt_key: str, declared: Mapping[str, Output]) -> Collected:
    """
    Read the record of an attempt, and check all declared outputs, but those at a URI of their own.

    :raises NotFound: if there is no record: the upload was not finished
    :raises OutputMissing: if some outputs were not written
    :raises OutputInvalid: if some are not what was declared
    """
    record = UploadRecord.from_bytes(store.read(f"{attempt_key}/{RECORD}", UploadRecord.limit))
    folder = f"{attempt_key}/{OUTPUTS}"
    return gathered(
        declared, lambda name, output, found: _collect_one(store, folder, name, output, record.outputs.get(name), found)
    )


def _collect_one(
    store: Store, folder: str, name: str, output: Output, uploaded: UploadedOutput | None, collected: Collected
) -> None:
    if uploaded is None or uploaded.missing is not None:
        names = sorted(uploaded.missing or ()) if uploaded is not None else []
        raise NotWritten(not_written(name, output, listed_names(names) or "nothing"))
    if uploaded.refused is not None:
        raise ValueError(uploaded.refused)
    if output.file and uploaded.tree:
        raise ValueError(not_a_file(name, output))
    key = f"{folder}/{name}/{output.file}" if output.file else f"{folder}/{name}"
    if output.is_parameter:
        collected.parameters[name] = parse_parameter(output.type, _small(store, key, uploaded, MAX_PARAMETER))
        return
    if not uploaded.files:
        raise ValueError(EMPTY_FOLDER)
    if output.type == "metrics":
        document = _small(store, key, uploaded, MAX_METRICS)
        collected.metrics[name] = parse_metrics(document, output.keys or ())
    started = time.perf_counter()
    files = [FileDigest(file.path, file.size, file.sha256) for file in uploaded.files]
    if not uploaded.tree and (len(files) != 1 or files[0].name):
        raise ValueError(f"its record in {RECORD} holds {len(files)} files; expected one")
    collected.artifacts[name] = Digested(
        digest=tree_digest(files) if uploaded.tree else f"sha256:{files[0].sha256}",
        size=sum(file.size for file in files),
        is_tree=uploaded.tree,
        files=files,
        seconds=time.perf_counter() - started,
    )


def _small(store: Store, key: str, uploaded: UploadedOutput, limit: int) -> bytes:
    if uploaded.tree:
        raise ValueError("is no regular file; expected one")
    size = sum(file.size for file in uploaded.files or ())
    if size > limit:
        raise ValueError(f"is {size} bytes; at most {limit} are allowed: hand bigger things on as an artifact")
    return store.read(key, limit)
