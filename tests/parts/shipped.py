# SPDX-License-Identifier: Apache-2.0
"""
A folder of the checkout's tests in which our packages are those that were installed: ``python tests/parts/shipped.py FOLDER``.

Tests run with their folder on the path, which would put the checkout's package before the installed wheel's. tox runs them from here, so that
what is tested is what is shipped, also in processes that a test starts.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("airflow_mlops", "airflow_provider_mlops")


def make(folder: Path) -> None:
    """Fill an empty folder."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if not name.startswith(PACKAGES) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None or Path(found.origin).is_relative_to(ROOT / package):
            raise SystemExit(
                f"{package} is not installed beside {sys.executable}; expected our wheel there: run this by tox"
            )
        (folder / package).symlink_to(Path(found.origin).parent)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
