# SPDX-License-Identifier: Apache-2.0
"""What is in the wheel and in the source distribution."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.parts.clean_environment import build_distributions
from tests.parts.images import ROOT

pytestmark = [pytest.mark.packaging, pytest.mark.slow]

PACKAGES = ("airflow_mlops", "airflow_provider_mlops")


@pytest.fixture(scope="module")
def ours() -> dict[str, bytes]:
    """The files of our packages in the checkout."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file())
    return {
        str(file.relative_to(ROOT)): file.read_bytes()
        for file in files
        if not any(part.startswith((".", "__pycache__")) for part in file.relative_to(ROOT).parts)
    }


def in_wheel(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_must_be_there_is_there(ours: dict[str, bytes]) -> None:
    assert any(name.endswith(".schema.json") for name in ours)
    assert any("cli/templates/" in name for name in ours)
    assert "airflow_mlops/py.typed" in ours


def test_the_wheel_holds_every_file_of_the_packages_as_it_is_and_nothing_else(
    wheel: Path, ours: dict[str, bytes]
) -> None:
    held = {name: content for name, content in in_wheel(wheel).items() if ".dist-info/" not in name}
    assert sorted(held) == sorted(ours)
    assert [name for name, content in held.items() if content != ours[name]] == []


def test_the_wheel_has_the_licence(wheel: Path) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in in_wheel(wheel))


def test_the_source_distribution_builds_the_wheel_that_the_checkout_builds(wheel: Path, tmp_path: Path) -> None:
    straight = next(build_distributions(tmp_path, "--wheel").glob("*.whl"))
    from_source, from_checkout = in_wheel(wheel), in_wheel(straight)
    assert straight.name == wheel.name
    assert sorted(from_source) == sorted(from_checkout)
    assert [name for name, content in from_source.items() if content != from_checkout[name]] == []


def test_the_source_distribution_holds_every_file_of_the_packages(wheel: Path, ours: dict[str, bytes]) -> None:
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert set(ours) - names == set()
