# SPDX-License-Identifier: Apache-2.0
"""
Our built wheel in an environment of its own, beside the libraries of the one that runs the tests.

The libraries are links to those that are installed already: the versions are exactly the locked ones, no registry is asked,
and no file of the checkout is on any path there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.parts.airflow_home import airflow_settings
from tests.parts.images import ROOT

OURS = ("airflow_mlops", "airflow_provider_mlops", "__editable__", "airflow-provider-mlops")
"""How the names of what belongs to our own distribution begin, installed in whatever way."""

SECONDS = 180
"""For one command of Airflow; a machine that is busy with other tests takes long to import it."""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def build_distributions(folder: Path, *kinds: str, source: Path | None = None) -> Path:
    """
    Build what a release consists of, from the files that git would have; a wheel is built from the source distribution.

    :param folder: empty; the tree to build from and the results go there
    :param kinds: options of ``python -m build``: ``--wheel`` builds one straight from the tree; default both
    :param source: an unpacked source distribution, in place of the checkout
    :return: the folder with the results
    """
    tree = source or folder / "tree"
    if source is None:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        for package in ("airflow_mlops", "airflow_provider_mlops"):
            shutil.copytree(ROOT / package, tree / package, ignore=ignored)
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(folder / "dist"), str(tree)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder / "dist"


@dataclass(frozen=True)
class CleanEnvironment:
    """A virtual environment with our dependencies, and with our wheel if it was given one."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def command(self, words: Iterable[str | Path]) -> list[str]:
        """Return a command line: ``airflow`` and what else has no script here is run as a module, by this interpreter."""
        name, *rest = map(str, words)
        script = self.folder / "bin" / name
        return [*([str(script)] if script.exists() else [str(self.python), "-m", name]), *rest]

    def settings(self, home: Path, **variables: str) -> dict[str, str]:
        """Return the environment variables of a user whose Airflow is below ``home``, and nothing of ours."""
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(home),
            "COLUMNS": "80",
            "PYTHONWARNINGS": "default",  # shows what names our files, deprecations included
            **airflow_settings(home),
            **variables,
        }

    def run(self, home: Path, *words: str | Path, **variables: str) -> Said:
        """Run a command to its end in a home."""
        done = subprocess.run(
            self.command(words),
            env=self.settings(home, **variables),
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


def clean_environment(folder: Path, wheel: Path | None) -> CleanEnvironment:
    """
    Make an environment.

    :param folder: where; it does not exist yet
    :param wheel: what to install in it; none leaves it without us
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    made = CleanEnvironment(folder)
    there = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in os.scandir(path):
            if not entry.name.startswith(OURS) and entry.name != "__pycache__":
                (there / entry.name).symlink_to(entry.path)
    if wheel is not None:
        installer = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-cache"]
        subprocess.run([*installer, "--compile-bytecode", "--python", str(made.python), str(wheel)], check=True)
    return made
