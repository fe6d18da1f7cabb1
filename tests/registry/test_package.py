# SPDX-License-Identifier: Apache-2.0
"""The package hands its names out when they are asked for, and brings nobody else's packages with them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import airflow_mlops.registry as package
from airflow_mlops.artifacts import ArtifactError, StoreFailed

MODULES = {module.name for module in pkgutil.iter_modules(package.__path__)}


def test_no_public_name_is_a_module() -> None:
    assert not MODULES & set(package.__all__)


def test_every_public_name_is_there() -> None:
    assert all(getattr(package, name).__name__ == name for name in package.__all__)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="surprise"):
        package.surprise  # noqa: B018 - the access is the test


def test_no_module_imports_airflow_or_a_client() -> None:
    script = (
        f"import sys\n{''.join(f'import airflow_mlops.registry.{name}{chr(10)}' for name in sorted(MODULES))}"
        "print(sorted({'airflow', 'docker', 'kubernetes', 'mlflow', 'fsspec', 's3fs', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_only_what_another_try_may_cure_is_a_failure_of_the_store() -> None:
    failures = {name for name in package._HOMES["errors"]}
    assert all(issubclass(getattr(package, name), ArtifactError) for name in failures)
    assert {name for name in failures if issubclass(getattr(package, name), StoreFailed)} == {"RegistryBusy"}
