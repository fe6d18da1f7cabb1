# SPDX-License-Identifier: Apache-2.0
"""What the environments of ``tox.ini`` install is what setup.cfg says that we run with."""

from __future__ import annotations

import configparser
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.locks.resolve import ENVIRONMENTS, FLOOR, SERVERS
from tests.parts.images import ROOT

LOCKS = sorted((ROOT / "tests/locks").glob("*.txt"))


def required() -> list[Requirement]:
    """What a user installs with us, and with the extra ``s3``."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    lines = f"{parser['options']['install_requires']}\n{parser['options.extras_require']['s3']}".splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(name: str) -> dict[str, Version]:
    """The versions in a lock file, for the Python that this is."""
    requirements = [
        Requirement(line) for line in (ROOT / f"tests/locks/{name}.txt").read_text().splitlines() if "==" in line
    ]
    return {
        canonicalize_name(one.name): Version(next(iter(one.specifier)).version)
        for one in requirements
        if one.marker is None or one.marker.evaluate()
    }


def test_every_environment_of_tox_has_a_lock_of_its_own() -> None:
    names = re.findall(r"^ +(af\w+): -r tests/locks/\1\.txt$", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    assert set(names) == {lock.stem for lock in LOCKS} - set(SERVERS) == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_lock_holds_what_a_user_installs_in_versions_that_we_allow(name: str) -> None:
    versions = pinned(name)
    for requirement in required():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)], prereleases=True), (
            requirement
        )


def test_the_floors_are_the_versions_that_the_floor_environment_runs_with() -> None:
    (floor,) = [name for name, (_, age) in ENVIRONMENTS.items() if age == FLOOR]
    versions = pinned(floor)
    floors = {
        canonicalize_name(one.name): Version(next(iter(one.specifier)).version)
        for one in required()
        if one.name != "apache-airflow"  # any 3.1 is allowed; tested is its last
    }
    assert floors == {name: versions[name] for name in floors}
    assert versions["apache-airflow"].release[:2] == (3, 1)


def test_every_provider_that_we_require_is_one_that_we_use() -> None:
    text = "\n".join(file.read_text() for file in (ROOT / "airflow_mlops").rglob("*.py"))
    names = [one.name for one in required() if one.name.startswith("apache-airflow-providers-")]
    modules = [
        f"airflow.providers.{name.removeprefix('apache-airflow-providers-').replace('-', '.')}." for name in names
    ]
    assert [module for module in modules if module not in text] == []
