# SPDX-License-Identifier: Apache-2.0
"""
Resolve what each environment of ``tox.ini`` and each server of the tests installs, into the lock files beside this one.

A table of an Airflow version, the bounds that its own metadata lacks, and what of each library is taken. ``newest``: the
newest. A day: Airflow and its own requirements are those of that day. ``floor``: of each library that setup.cfg names, the
oldest that it allows. The files are committed: a day alone does not repeat a resolution. What is pinned stays, unless
``--upgrade`` is given.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

OURS = "setup.cfg"
HEADER = "# Made by: make locks\n"
NEWEST, FLOOR = "newest", "floor"

# svcs 26 ends the in-process API of Airflow below 3.3 too early; FastAPI 0.137 does not agree with the API models
# of 3.2.
ENVIRONMENTS: dict[str, tuple[list[str], str]] = {
    "af31": (["apache-airflow==3.1.8", "svcs<26"], NEWEST),
    "af32": (["apache-airflow==3.2.2", "svcs<26", "fastapi<0.137"], NEWEST),
    "af33": (["apache-airflow==3.3.2"], NEWEST),
    "af31low": (["apache-airflow==3.1.8", "svcs<26"], "2026-04-01T00:00:00Z"),
    "af32low": (["apache-airflow==3.2.2", "svcs<26"], "2026-06-16T00:00:00Z"),
    "af33low": (["apache-airflow==3.3.2"], "2026-10-02T00:00:00Z"),
    "af31floor": (["apache-airflow==3.1.8", "svcs<26"], FLOOR),
}

SERVERS: dict[str, list[str]] = {"mlflow": ["mlflow==3.17.2"]}
"""What tests start in an environment of its own, without ours: MLflow and Airflow do not agree on what both need."""


def compiled(pinned: Path, requirements: list[str], *options: str) -> str:
    """Return the lines that pin these requirements, for every Python and platform that we support."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
    with TemporaryDirectory() as scratch:
        lock = Path(scratch, "lock.txt")
        if pinned.exists():
            shutil.copy(pinned, lock)  # uv keeps what its output pins
        subprocess.run(
            [*command, "--no-annotate", "--no-header", f"--output-file={lock}", *options, "-"],
            input="\n".join(requirements),
            stdout=subprocess.DEVNULL,
            text=True,
            check=True,
            cwd=ROOT,
        )
        return lock.read_text()


def main(arguments: list[str]) -> None:
    """Write the lock files of the named environments, or of all."""
    upgrade = ["--upgrade"] if "--upgrade" in arguments else []
    for name in [name for name in arguments if name not in upgrade] or [*ENVIRONMENTS, *SERVERS]:
        if name in SERVERS:
            lock = HERE / f"{name}.txt"
            lock.write_text(HEADER + compiled(lock, SERVERS[name], *upgrade))
            continue
        requirements, age = ENVIRONMENTS[name]
        lock = HERE / f"{name}.txt"
        if age != NEWEST:  # the tools and the examples' packages are today's
            oldest = (
                ["--resolution=lowest-direct", "--extra=s3", "--extra=kubernetes", "--extra=mlflow"]
                if age == FLOOR
                else [f"--exclude-newer={age}"]
            )
            requirements = compiled(lock, requirements, *oldest, *upgrade, OURS).splitlines()
        pins = compiled(lock, requirements, "--extra=dev", "--extra=examples", *upgrade, OURS)
        lock.write_text(HEADER + pins)


if __name__ == "__main__":
    main(sys.argv[1:])
