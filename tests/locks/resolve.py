# SPDX-License-Identifier: Apache-2.0
"""
Resolve what each environment of ``tox.ini`` installs, into the lock files beside this one.

A table of an Airflow version, the bounds that its own metadata lacks, and for the ``low`` environments the day as of
which Airflow and its own requirements are taken. The files are committed: a day alone does not repeat a resolution.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# svcs 26 ends the in-process API of Airflow below 3.3 too early; FastAPI 0.137 does not agree with the API models
# of 3.2.
ENVIRONMENTS: dict[str, tuple[list[str], str | None]] = {
    "af31": (["apache-airflow==3.1.8", "svcs<26"], None),
    "af32": (["apache-airflow==3.2.2", "svcs<26", "fastapi<0.137"], None),
    "af33": (["apache-airflow==3.3.2"], None),
    "af31low": (["apache-airflow==3.1.8", "svcs<26"], "2026-04-01T00:00:00Z"),
    "af32low": (["apache-airflow==3.2.2", "svcs<26"], "2026-06-15T00:00:00Z"),
    "af33low": (["apache-airflow==3.3.2"], "2026-10-01T00:00:00Z"),
}


def compiled(requirements: list[str], *options: str) -> str:
    """Return the lines that pin our requirements and these, for every Python and platform that we support."""
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version=3.11",
        "--no-annotate",
        "--no-header",
    ]
    text = "\n".join(requirements)
    return subprocess.run(
        [*command, *options, "setup.cfg", "-"], input=text, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    ).stdout


def main(names: list[str]) -> None:
    """Write the lock files of the named environments, or of all."""
    for name in names or ENVIRONMENTS:
        requirements, day = ENVIRONMENTS[name]
        if day:  # the tools and the examples' packages are today's
            requirements = compiled(requirements, f"--exclude-newer={day}").splitlines()
        pins = compiled(requirements, "--extra=dev", "--extra=examples")
        (HERE / f"{name}.txt").write_text("# Made by: make locks\n" + pins)


if __name__ == "__main__":
    main(sys.argv[1:])
