# SPDX-License-Identifier: Apache-2.0
"""
The documents of an attempt: what was resolved before it started (``step.json``), what it left behind
(``outputs.json``), and what a generation committed (``manifest.json``).

All are canonical JSON, carry a version of their own and have a JSON Schema in ``schemas/``. They are read strictly:
what a store holds may have been written by anybody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_mlops.artifacts.artifact import Artifact
from airflow_mlops.artifacts.errors import DocumentInvalid
from airflow_mlops.artifacts.layout import Place
from airflow_mlops.artifacts.strict_json import canonical, parse

SCHEMAS = Path(__file__).parent / "schemas"


class Document(BaseModel):
    """What the documents share: strict reading, canonical writing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    title: ClassVar[str]
    limit: ClassVar[int] = 4 << 20
    """Largest size in bytes."""
    remedy: ClassVar[str] = "; run the step again to make a new one"
    """What to do about one that cannot be read, as the end of a sentence."""

    version: Literal[1] = Field(default=1, description="Version of this document's format")

    def to_bytes(self) -> bytes:
        """
        The canonical JSON of the document.

        :raises DocumentInvalid: if it holds what JSON cannot, or is too large
        """
        try:
            data = canonical(self.model_dump(by_alias=True))
        except (TypeError, ValueError) as error:
            raise DocumentInvalid(f"cannot write {self.title}: {error}") from error
        if len(data) > self.limit:
            raise DocumentInvalid(f"{self.title} would be {len(data)} bytes; at most {self.limit} are allowed")
        return data

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of :meth:`to_bytes`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """
        Read a document.

        :raises DocumentInvalid: if it is malformed, too large, or of a version that this package does not know
        """
        try:
            document = parse(data, limit=cls.limit)
        except ValueError as error:
            raise DocumentInvalid(f"{cls.title} {error}") from None
        version = document.get("version") if isinstance(document, dict) else None
        if type(version) is not int or version < 1:
            raise DocumentInvalid(f"{cls.title} is no JSON object with a version{cls.remedy}")
        if version > 1:
            raise DocumentInvalid(
                f"{cls.title} has version {version}, and this package reads up to 1: update airflow-provider-mlops here"
            )
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise DocumentInvalid(f"{cls.title} is malformed: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    """The first of the problems, without the value: it may be long, or nobody's business."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"


class SealedInput(BaseModel):
    """An artifact input as it was resolved."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: str = Field(description="Artifact type")
    path: str | None = Field(description="Where the program finds it; null if it was given the URI alone")
    uri: str = Field(description="Where it lies")
    digest: str = Field(description="What it is")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Small facts about it")


class SealedOutput(BaseModel):
    """An output as it was declared."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: str = Field(description="Artifact or parameter type")
    path: str = Field(description="Where the program must write it")


class SealedStep(BaseModel):
    """What a fingerprint covers: the same for every attempt with the same result."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    pipeline: str = Field(description="DAG id")
    name: str = Field(description="Task id: names from the root, joined by dots")
    kind: str = Field(description="What the step is for")
    runtime: str = Field(description="Where its program runs")
    image: str | None = Field(default=None, description="Container image as rendered")
    command: list[str] = Field(default_factory=list, description="Program and first arguments as rendered")
    args: list[str] = Field(default_factory=list, description="Further arguments as rendered")
    entrypoint: list[str] = Field(
        default_factory=list,
        description="What runs the command in place of the image's entry point, where that is given",
    )
    user: str | None = Field(default=None, description="User that the container's program runs as")
    working_dir: str | None = Field(default=None, description="Working directory; null for the image's own")
    mounts: list[str] = Field(
        default_factory=list,
        description="Further folders that the program sees: source:target, then :ro if it may only read",
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment as rendered, without secrets and without the contract's own"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Declared parameters and parameter inputs")
    inputs: dict[str, SealedInput] = Field(default_factory=dict, description="Artifact inputs by name")
    outputs: dict[str, SealedOutput] = Field(default_factory=dict, description="Outputs by name")
    source: str | None = Field(default=None, description="Digest of the step code")


class SealedRuntime(BaseModel):
    """What surrounds the program: enough to open the same place again. Another place makes no other result, so nothing is compared."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    root: str = Field(min_length=1, description="Folder of the contract, as the program sees it")
    cpu: float | None = Field(default=None, description="Cores")
    memory: int | None = Field(default=None, description="Bytes")
    gpu: int = Field(default=0, description="Number of GPUs")
    shm: int | None = Field(default=None, description="Bytes of shared memory")
    checkpoint: bool = Field(default=False, description="Whether it has a checkpoint folder")
    secrets: dict[str, dict[str, str]] = Field(default_factory=dict, description="Secrets by reference")
    venv: str | None = Field(default=None, description="Virtual environment of a process")
    disk: int | None = Field(default=None, description="Bytes of the node's disk")
    docker: dict[str, Any] = Field(default_factory=dict, description="Daemon and network of a container")
    kubernetes: dict[str, Any] = Field(default_factory=dict, description="Cluster and further parts of a pod")
    image_id: str | None = Field(default=None, description="Id of the image, where the program was started")


class SealedRun(BaseModel):
    """Which run, try and attempt it is."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    id: str = Field(description="Run id")
    date: str | None = Field(default=None, description="Date of the run, ISO 8601")
    interval_start: str | None = Field(default=None, description="Start of the data interval, ISO 8601")
    interval_end: str | None = Field(default=None, description="End of the data interval, ISO 8601")
    instance: str = Field(description="Id of the Airflow installation")
    map_index: int = Field(default=-1, description="Index of a mapped task; -1 for a plain one")
    generation: int = Field(description="First try since the task was scheduled or cleared")
    incarnation: int = Field(default=0, description="How many deleted runs had the same run id before")
    try_: int = Field(alias="try", description="Airflow's try number")
    attempt: str = Field(description="Random id of the attempt")
    starter: str = Field(description="Airflow's id of the task instance's try")


class Seal(Document):
    """``step.json``: what was resolved before an attempt started; the program finds it at ``/mlops/step.json``."""

    title: ClassVar[str] = "step.json"

    step: SealedStep = Field(description="What the fingerprint covers")
    run: SealedRun = Field(description="Run, try and attempt; a step that reads it should not be reused")
    runtime: SealedRuntime | None = Field(default=None, description="What surrounds the program, if there is one")


class OutputFile(BaseModel):
    """A file of an output."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: str = Field(description="Path within the output; empty if the output is one file")
    size: int = Field(ge=0, description="Bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Hexadecimal digest")


class OutputsSeal(Document):
    """``outputs.json``: every file that an attempt left behind."""

    title: ClassVar[str] = "outputs.json"
    limit: ClassVar[int] = 256 << 20

    outputs: dict[str, list[OutputFile]] = Field(description="Files by output")


class ManifestArtifact(BaseModel):
    """A committed artifact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(description="The output's name")
    type: str = Field(description="Artifact type")
    uri: str = Field(description="Where it lies")
    digest: str = Field(description="sha256:…, sha256-tree:…, etag:… or none")
    size: int | None = Field(default=None, ge=0, description="Bytes")
    is_tree: bool = Field(default=False, description="Whether it is a folder")
    file: str | None = Field(default=None, description="Name of the file where it is staged")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Small facts about it")


class Manifest(Document):
    """``manifest.json``: the commit of a generation. Put if absent, never changed."""

    title: ClassVar[str] = "manifest.json"

    instance: str = Field(description="Id of the Airflow installation")
    pipeline: str = Field(description="DAG id, not encoded")
    run: str = Field(description="Run id, not encoded")
    step: str = Field(description="Task id, not encoded")
    iteration: str = Field(description="Path of the iteration; - outside of any")
    generation: int = Field(ge=1, description="First try since the task was scheduled or cleared")
    incarnation: int = Field(default=0, ge=0, description="How many deleted runs had the same run id before")
    try_: int = Field(alias="try", ge=0, description="The try that committed")
    attempt: str = Field(description="The attempt whose outputs these are")
    kind: str = Field(description="What the step is for")
    seal: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of the attempt's step.json")
    artifacts: dict[str, ManifestArtifact] = Field(default_factory=dict, description="Artifacts by name")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Parameter outputs by name")
    metrics: dict[str, dict[str, int | float]] = Field(
        default_factory=dict, description="Scalars of the metrics outputs"
    )
    runtime: dict[str, Any] = Field(default_factory=dict, description="What ran it: image id, python version, …")
    timings: dict[str, float] = Field(
        default_factory=dict, description="Seconds since the epoch, and durations in seconds"
    )

    @classmethod
    def of(
        cls,
        place: Place,
        *,
        attempt: str,
        try_number: int,
        seal: Seal,
        artifacts: Mapping[str, Artifact],
        **values: Any,
    ) -> Manifest:
        """
        The manifest of what an attempt made, for a place in the store.

        :raises DocumentInvalid: if a value is not what the field takes
        """
        try:
            return cls(
                instance=place.instance,
                pipeline=place.pipeline,
                run=place.run,
                step=place.step,
                iteration=place.iteration,
                generation=place.generation,
                incarnation=place.incarnation,
                attempt=attempt,
                seal=seal.sha256,
                artifacts={name: ManifestArtifact(**artifact.to_json()) for name, artifact in artifacts.items()},
                **{**values, "try": try_number},
            )
        except ValidationError as error:
            raise DocumentInvalid(f"{cls.title} of '{place.step}' cannot be made: {_first(error)}") from None

    def is_of(self, place: Place) -> bool:
        """Whether it is the commit of a place."""
        return place == self.place

    @property
    def place(self) -> Place:
        """The place in the store that it says it is the commit of."""
        return Place(
            self.instance, self.pipeline, self.run, self.step, self.iteration, self.generation, self.incarnation
        )

    def artifact(self, name: str) -> Artifact:
        """
        One artifact as a reference.

        :raises KeyError: if there is none of that name
        """
        return Artifact.from_json(self.artifacts[name].model_dump())


DOCUMENTS: dict[str, type[Document]] = {"step": Seal, "outputs": OutputsSeal, "manifest": Manifest}


def document_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a document: ``step``, ``outputs`` or ``manifest``."""
    return schema_of(DOCUMENTS[name])


def schema_of(kind: type[Document]) -> dict[str, Any]:
    """The JSON Schema of a kind of document, with the draft it is written in."""
    schema = kind.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_schemas(documents: Mapping[str, type[Document]], folder: Path) -> None:
    """Rewrite the committed schemas of documents (``python -m airflow_mlops.artifacts.manifest``), by their names."""
    folder.mkdir(exist_ok=True)
    for name, kind in documents.items():
        text = json.dumps(schema_of(kind), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas(DOCUMENTS, SCHEMAS)
