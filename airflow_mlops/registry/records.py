# SPDX-License-Identifier: Apache-2.0
"""
The documents of a registry of files: a version's, a move's, and the index of a hundred versions.

All are canonical JSON, put if absent and never changed, with a JSON Schema in ``schemas/``. They are read strictly and
must say where they lie, so that one that somebody copied to another place is not believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import Field, ValidationError

from airflow_mlops.artifacts.errors import DocumentInvalid
from airflow_mlops.artifacts.manifest import Document, schema_of, write_schemas
from airflow_mlops.registry.errors import RegistrationRefused
from airflow_mlops.registry.model import DIGEST, Move, Registered

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store

SCHEMAS = Path(__file__).parent / "schemas"

FOLDER = r"^files/sha256(-tree)?-[0-9a-f]{64}/(0|[1-9][0-9]{0,8})/[0-9a-f]{16}$"

SEGMENT = 100
"""Versions of one document of the index."""

Record = TypeVar("Record", bound=Document)


class RegistryDocument(Document):
    """A document of a registry, which no step would make again."""

    remedy: ClassVar[str] = ""


class VersionRecord(RegistryDocument):
    """``versions/<number>.json``. Its files are named by their place within the model's folder, so that a store can be moved."""

    title: ClassVar[str] = "the record of a version"
    limit: ClassVar[int] = 1 << 20

    folder: str = Field(pattern=FOLDER, description="Where its files lie within the model's folder")
    model: Registered = Field(description="The version")


class MoveRecord(RegistryDocument):
    """``moves/<number>.json``."""

    title: ClassVar[str] = "the record of a move"
    limit: ClassVar[int] = 1 << 20

    model: str = Field(description="The model's name")
    move: Move = Field(description="The move")


class IndexRecord(RegistryDocument):
    """``index/<segment>.json``."""

    title: ClassVar[str] = "the index of versions"
    limit: ClassVar[int] = 64 << 10

    model: str = Field(description="The model's name")
    segment: int = Field(ge=1, description="Which hundred of versions; the first one is 1")
    digests: list[Annotated[str, Field(pattern=DIGEST)]] = Field(
        min_length=SEGMENT, max_length=SEGMENT, description="Digests in the order of the versions' numbers"
    )


def read_record(store: Store, key: str, kind: type[Record]) -> Record:
    """
    Read a record.

    :raises NotFound: if there is none
    :raises DocumentInvalid: if it is damaged, saying which it is
    """
    data = store.read(key, kind.limit)
    try:
        return kind.from_bytes(data)
    except DocumentInvalid as error:
        raise damaged(store, key, str(error)) from None


def damaged(store: Store, key: str, what: str) -> DocumentInvalid:
    """The failure that a record cannot be believed."""
    return DocumentInvalid(f"{store.uri(key)}: {what}; restore the file, which nobody but the registry should write to")


def made(kind: type[Any], values: dict[str, Any], what: str) -> Any:
    """
    Make a part of a record from values that a caller gave.

    :raises RegistrationRefused: if one of them is not what the field takes
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RegistrationRefused(
            f"{what}: {where or 'its values'}: {first['msg']}; correct that and try again"
        ) from None


RECORDS: dict[str, type[Document]] = {"version": VersionRecord, "move": MoveRecord, "index": IndexRecord}


def record_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a record: ``version``, ``move`` or ``index``."""
    return schema_of(RECORDS[name])


if __name__ == "__main__":
    write_schemas(RECORDS, SCHEMAS)
