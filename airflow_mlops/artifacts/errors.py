# SPDX-License-Identifier: Apache-2.0
"""One exception class for each class of failure, so that retry rules can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlops.artifacts.manifest import Manifest

SHOWN = 20


class ArtifactError(Exception):
    """Something about artifacts or their store is wrong. The message says where, what, and what to do."""


class StoreFailed(ArtifactError):
    """The store could not do what was asked: infrastructure, so another try may succeed."""


class NotFound(StoreFailed):
    """What was to be read is not in the store."""


class ReferenceRefused(ArtifactError):
    """A key, URI, artifact or reference is not what it claims to be, or leads out of the store."""


class DocumentInvalid(ArtifactError):
    """A seal, manifest or other JSON document is malformed, too large, or of an unknown version."""


class ContentRefused(ArtifactError):
    """A file or folder holds what cannot be an artifact: a link, a device, an unsafe name, too many files."""


class OutputInvalid(ArtifactError):
    """
    A step's outputs are not what it declared.

    :param problems: one line for each of them
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(listed(self.problems, "problem", separator="\n"))


class OutputMissing(OutputInvalid):
    """A declared output was not written (and nothing worse is wrong)."""


class AlreadyCommitted(ArtifactError):
    """
    Another attempt of the same generation committed first; what this one made does not count.

    :param winner: the manifest that stands
    """

    def __init__(self, message: str, winner: Manifest) -> None:
        self.winner = winner
        super().__init__(message)


class Replaced(ArtifactError):
    """A later try of the same task has claimed what this one was working on; it must end and touch nothing."""


class InstanceUnknown(ArtifactError):
    """The id of this Airflow installation is not set, or is not a name that can be used."""


class SourceRefused(ArtifactError):
    """A source folder cannot be packed, or a packed one cannot be unpacked."""


class ArchiveRefused(ArtifactError):
    """A tar archive holds what we do not extract: links, devices, names that lead out, more than the caps allow."""


def listed(items: Sequence[str], noun: str, *, separator: str = ", ", shown: int = SHOWN) -> str:
    """Join the first items and count the rest, so that a message stays readable."""
    text = separator.join(items[:shown])
    rest = len(items) - shown
    return f"{text}{separator}… and {rest} more {noun}{'s' if rest > 1 else ''}" if rest > 0 else text
