# SPDX-License-Identifier: Apache-2.0
"""What every model registry can do, so that pipelines need not know whether it is files in the store or a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_mlops.artifacts.artifact import Artifact
    from airflow_mlops.registry.model import Facts, ModelVersion, Move
    from airflow_mlops.spec.model_names import ModelReference


class ModelRegistry(Protocol):
    """
    Names and versions of models. A version never changes, and a number is never used again; what changes is where
    aliases point, and each change is an entry of the model's log.

    Every method raises ``NameRefused`` for what is no name, alias or number, and ``StoreFailed`` if whatever holds the
    registry cannot be reached.
    """

    def register(
        self, name: str, artifact: Artifact, *, by: str, facts: Facts | None = None, local: Path | None = None
    ) -> tuple[ModelVersion, bool]:
        """
        Make a model a version. The same content under the same name is the same version, until that is deleted.

        :param artifact: the model; its digest must be one of content
        :param by: who does it
        :param facts: what else is known; those of the first registration stay
        :param local: where the model lies on this machine, if it does not lie in the store
        :return: the version, and whether it is new
        :raises RegistrationRefused: if it is no model, or not the one that its digest says
        :raises RegistryBusy: if others were faster at every try
        """

    def version(self, name: str, number: int) -> ModelVersion:
        """
        One version.

        :raises UnknownModel: if there is no such model
        :raises UnknownVersion: if it has no such version, or has it no more
        """

    def resolve(self, reference: str | ModelReference) -> ModelVersion:
        """
        The version that a reference means now.

        :param reference: ``models:name@alias`` or ``models:name/3``
        :raises UnknownModel: if there is no such model
        :raises UnknownVersion: if it has no such version, or has it no more
        :raises UnknownAlias: if it has no such alias
        """

    def versions(self, name: str) -> list[ModelVersion]:
        """
        All versions that are not deleted, the oldest first.

        :raises UnknownModel: if there is no such model
        """

    def models(self) -> list[str]:
        """Names of all models that have, or had, a version, in order."""

    def aliases(self, name: str) -> dict[str, int]:
        """
        Where the aliases of a model point.

        :raises UnknownModel: if there is no such model
        """

    def move(
        self,
        name: str,
        changes: Mapping[str, int | None],
        *,
        by: str,
        why: str = "",
        expected: Mapping[str, int | None] | None = None,
    ) -> Move | None:
        """
        Move aliases, all of them or none.

        :param changes: aliases and the versions they shall point to; ``None`` removes one
        :param by: who does it
        :param why: for what reason
        :param expected: where aliases must point for this to be done; ``None`` stands for one that there is not
        :return: the entry of the log; ``None`` if they pointed there before
        :raises AliasMoved: if an alias points to something else than was expected
        :raises UnknownModel: if there is no such model
        :raises UnknownVersion: if it has no such version, or has it no more
        :raises RegistryBusy: if others were faster at every try
        """

    def delete(self, name: str, number: int, *, by: str, why: str = "") -> Move | None:
        """
        Delete a version and its files.

        :return: the entry of the log; ``None`` if it was deleted before
        :raises VersionInUse: if an alias points to it
        :raises UnknownModel: if there is no such model
        :raises UnknownVersion: if it never had such a version
        :raises RegistryBusy: if others were faster at every try
        """

    def history(self, name: str) -> list[Move]:
        """
        The log of a model, the oldest entry first.

        :raises UnknownModel: if there is no such model
        """
