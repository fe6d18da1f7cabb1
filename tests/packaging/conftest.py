# SPDX-License-Identifier: Apache-2.0
"""What a release consists of, and an environment that has nothing else of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.parts.clean_environment import CleanEnvironment, Said, build_distributions, clean_environment


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, built from our source distribution, which lies beside it."""
    return next(build_distributions(tmp_path_factory.mktemp("release")).glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    """The wheel in a clean environment."""
    return clean_environment(tmp_path_factory.mktemp("clean") / "venv", wheel)


@pytest.fixture(scope="session")
def migrated(installed: CleanEnvironment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A home whose database was made with us installed, and what was said of it."""
    home = tmp_path_factory.mktemp("home")
    said = installed.run(home, "airflow", "db", "migrate")
    shutil.copyfile(home / "airflow.db", home / "empty.db")
    return home, said


@pytest.fixture
def migrated_home(migrated: tuple[Path, Said], tmp_path: Path) -> Path:
    """A home with that database and no DAGs."""
    shutil.copyfile(migrated[0] / "empty.db", tmp_path / "airflow.db")
    return tmp_path
