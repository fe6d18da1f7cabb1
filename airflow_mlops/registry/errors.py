# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong with registered models, one class a failure: what another try may cure derives from
:class:`~airflow_mlops.artifacts.StoreFailed`, the rest does not.
"""

from __future__ import annotations

from airflow_mlops.artifacts.errors import ArtifactError, StoreFailed


class RegistrationRefused(ArtifactError):
    """What was to be registered is no model, or not the one that its digest says."""


class UnknownModel(ArtifactError):
    """No version is registered under a name."""


class UnknownVersion(ArtifactError):
    """A model has no such version, or has it no more."""


class UnknownAlias(ArtifactError):
    """A model has no such alias."""


class VersionInUse(ArtifactError):
    """A version cannot be deleted, since an alias points to it."""


class AliasMoved(ArtifactError):
    """An alias does not point to where it was expected: somebody else moved it."""


class RegistryBusy(StoreFailed):
    """Others were faster at every try."""
