# SPDX-License-Identifier: Apache-2.0
"""
Names and versions of models: what a registry can do, the one that is files in the store, and promotion on top of any.

This package imports neither Airflow nor docker nor kubernetes nor mlflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.registry.errors import (
        AliasMoved,
        RegistrationRefused,
        RegistryBusy,
        UnknownAlias,
        UnknownModel,
        UnknownVersion,
        VersionInUse,
    )
    from airflow_mlops.registry.files import FileRegistry
    from airflow_mlops.registry.model import Facts, ModelVersion, Move, Origin
    from airflow_mlops.registry.promotion import Promotion, promote, rollback
    from airflow_mlops.registry.protocol import ModelRegistry
    from airflow_mlops.spec.model_names import ModelReference, NameRefused, check_alias, check_name, check_number

_HOMES = {
    "errors": (
        "AliasMoved",
        "RegistrationRefused",
        "RegistryBusy",
        "UnknownAlias",
        "UnknownModel",
        "UnknownVersion",
        "VersionInUse",
    ),
    "files": ("FileRegistry",),
    "model": ("Facts", "ModelVersion", "Move", "Origin"),
    "promotion": ("Promotion", "promote", "rollback"),
    "protocol": ("ModelRegistry",),
}
_NAMES = ("ModelReference", "NameRefused", "check_alias", "check_name", "check_number")
_LAZY = {name: module for module, names in _HOMES.items() for name in names}
_LAZY |= dict.fromkeys(_NAMES, "airflow_mlops.spec.model_names")

__all__ = [
    "AliasMoved",
    "Facts",
    "FileRegistry",
    "ModelReference",
    "ModelRegistry",
    "ModelVersion",
    "Move",
    "NameRefused",
    "Origin",
    "Promotion",
    "RegistrationRefused",
    "RegistryBusy",
    "UnknownAlias",
    "UnknownModel",
    "UnknownVersion",
    "VersionInUse",
    "check_alias",
    "check_name",
    "check_number",
    "promote",
    "rollback",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module if "." in module else f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
