# SPDX-License-Identifier: Apache-2.0
"""
What a registry says about models: versions, and the moves that give them aliases or delete them. The same wherever the
registry lies.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_mlops.artifacts.artifact import Artifact

DIGEST = "^sha256(-tree)?:[0-9a-f]{64}$"

MAX_WORD = 200
"""Characters of who did something."""

MAX_TEXT = 10_000
"""Characters of a reason or a description."""


class _Fact(BaseModel):
    """What all of them share: no field that nobody knows, no value that is converted, no change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Origin(_Fact):
    """The run of a step that made a model."""

    instance: str = Field(description="Id of the Airflow installation")
    pipeline: str = Field(description="DAG id")
    run: str = Field(description="Run id")
    step: str = Field(description="Task id")
    iteration: str = Field(default="-", description="Path of the iteration; - outside of any")
    generation: int = Field(ge=1, description="First try since the task was scheduled or cleared")
    try_: int = Field(alias="try", ge=0, description="The try that committed")
    attempt: str = Field(description="The attempt whose output it is")
    manifest: str | None = Field(default=None, description="URI of the manifest")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="sha256 of the manifest")


class Facts(_Fact):
    """What is known about a model beside its bytes."""

    metrics: dict[str, int | float] = Field(default_factory=dict, description="Measured on it")
    origin: Origin | None = Field(default=None, description="What made it; null if it was made elsewhere")
    git_commit: str | None = Field(
        default=None, pattern="^[0-9a-f]{7,64}$", description="Commit of the code that made it"
    )
    inputs: dict[str, str] = Field(default_factory=dict, description="Digests of what it was made from, by name")
    source: str | None = Field(default=None, description="Digest of the step code")
    signature: dict[str, Any] | None = Field(default=None, description="What it takes and gives, as MLflow says it")
    input_example: str | None = Field(default=None, description="Path of an example of its input, within its folder")
    description: str = Field(default="", max_length=MAX_TEXT, description="For people")
    tags: dict[str, str] = Field(default_factory=dict, description="For programs")


class Registered(Facts):
    """A version of a model, wherever its files lie. It never changes."""

    name: str = Field(description="The model's name")
    version: int = Field(ge=1, description="Counted from 1; a number is never used again")
    digest: str = Field(pattern=DIGEST, description="What it is")
    size: int = Field(ge=0, description="Bytes")
    is_tree: bool = Field(default=False, description="Whether it is a folder")
    file: str | None = Field(default=None, description="Name of the file where it is staged")
    registered_at: float = Field(description="Seconds since the epoch")
    registered_by: str = Field(max_length=MAX_WORD, description="Who did it")
    remarks: list[str] = Field(default_factory=list, description="What was left out of it, and why")


class ModelVersion(Registered):
    """A version of a model, and where its files lie."""

    uri: str = Field(description="Where its files lie in the registry")

    def as_artifact(self, name: str = "model") -> Artifact:
        """
        The version as an artifact that steps take.

        :param name: of the artifact
        :raises ReferenceRefused: if that is no name of an artifact, or the version has a place or a file that is not
            allowed in one
        """
        metadata = {"model": self.name, "version": self.version}
        artifact = Artifact(name, "model", self.uri, self.digest, self.size, self.is_tree, self.file, metadata)
        return Artifact.from_json(artifact.to_json())


class Move(_Fact):
    """An entry of a model's log: what was changed, by whom and why, and all that holds since."""

    number: int = Field(ge=1, description="Counted from 1, without gaps")
    id: str = Field(description="Random: tells a writer who did not hear the answer that the entry is their own")
    changed: dict[str, int | None] = Field(
        default_factory=dict, description="Aliases that were moved, and where to; null for one that was removed"
    )
    deleted: int | None = Field(default=None, ge=1, description="The version that was deleted")
    aliases: dict[str, int] = Field(description="All aliases since")
    all_deleted: list[int] = Field(description="All versions that are deleted since")
    by: str = Field(max_length=MAX_WORD, description="Who did it")
    why: str = Field(default="", max_length=MAX_TEXT, description="For what reason")
    at: float = Field(description="Seconds since the epoch")
