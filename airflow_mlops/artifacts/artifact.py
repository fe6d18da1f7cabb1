# SPDX-License-Identifier: Apache-2.0
"""A reference to an artifact, as it travels from step to step in manifests and XCom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.artifacts.errors import ReferenceRefused
from airflow_mlops.artifacts.strict_json import canonical

ARTIFACT_TYPES = ("dataset", "model", "metrics", "report", "artifact")
MAX_METADATA = 64 * 1024
"""Bytes of an artifact's metadata as JSON."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,127}\Z")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha256-tree:[0-9a-f]{64}|etag:[\x21-\x7e]{1,256}|none)\Z")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[^\x00-\x1f\x7f]{1,4096}\Z")
_FILE = re.compile(r"[^/\x00-\x1f\x7f]{1,255}\Z")
_FIELDS = {"name", "type", "uri", "digest", "size", "is_tree", "file", "metadata"}


@dataclass(frozen=True, slots=True)
class Artifact:
    """
    An artifact that was committed, or data that was imported.

    :param name: the output's name
    :param type: one of :data:`ARTIFACT_TYPES`
    :param uri: where it lies
    :param digest: ``sha256:…``, ``sha256-tree:…``, ``etag:…`` or ``none``
    :param size: bytes; ``None`` if nobody looked
    :param is_tree: whether it is a folder
    :param file: name that the file must have where it is staged, if the producer gave it one
    :param metadata: small facts about it, such as the scalars of metrics
    """

    name: str
    type: str
    uri: str
    digest: str
    size: int | None = None
    is_tree: bool = False
    file: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that :meth:`from_json` takes."""
        document: dict[str, Any] = {"name": self.name, "type": self.type, "uri": self.uri, "digest": self.digest}
        if self.size is not None:
            document["size"] = self.size
        if self.is_tree:
            document["is_tree"] = True
        if self.file is not None:
            document["file"] = self.file
        if self.metadata:
            document["metadata"] = dict(self.metadata)
        return document

    @classmethod
    def from_json(cls, document: Any) -> Artifact:
        """
        Read a reference that came from elsewhere.

        :raises ReferenceRefused: if it is not one
        """
        if not isinstance(document, Mapping) or not {"name", "type", "uri", "digest"} <= set(document) <= _FIELDS:
            raise ReferenceRefused(
                f"an artifact reference is {_shown(document)}; expected an object with name, type, uri and digest"
            )
        values: dict[str, Any] = {"size": None, "is_tree": False, "file": None, "metadata": {}, **document}
        checks = {
            "name": _matches(values["name"], _NAME),
            "type": values["type"] in ARTIFACT_TYPES,
            "uri": _matches(values["uri"], _URI) and ".." not in values["uri"].split("/"),
            "digest": _matches(values["digest"], _DIGEST),
            "size": values["size"] is None or (type(values["size"]) is int and values["size"] >= 0),
            "is_tree": isinstance(values["is_tree"], bool),
            "file": values["file"] is None or (_matches(values["file"], _FILE) and values["file"] not in (".", "..")),
            "metadata": _is_small_object(values["metadata"]),
        }
        for name, holds in checks.items():
            if not holds:
                raise ReferenceRefused(
                    f"an artifact reference has {name} {_shown(values[name])}, which is not allowed there"
                )
        return cls(**values)


def _matches(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.match(value) is not None


def _is_small_object(value: Any) -> bool:
    try:
        return isinstance(value, Mapping) and len(canonical(dict(value))) <= MAX_METADATA
    except (TypeError, ValueError, RecursionError):
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
