# SPDX-License-Identifier: Apache-2.0
"""
What a process of Airflow pays for our being installed: the same commands in two environments of the same libraries, one with our wheel, in turn.

CPU seconds of whole processes, since wall seconds say more of the machine; medians are printed. Beside them, what Python spent on importing our
modules, which is small against the noise of the whole. Run it as ``python benchmarks/airflow_startup.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.packaging.imports import LIMIT_MS, watched
from tests.parts.clean_environment import CleanEnvironment, build_distributions, clean_environment

COMMANDS = (("version",), ("dags", "list"))


def cpu_seconds(environment: CleanEnvironment, home: Path, words: tuple[str, ...]) -> float:
    """User and system time of a command and its children."""
    before = os.times()
    said = environment.run(home, "airflow", *words)
    after = os.times()
    if said.code:
        raise SystemExit(f"airflow {' '.join(words)} ended with {said.code}:\n{said.out}{said.err}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    """Measure; the exit code is 1 if importing us takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    late = False
    with tempfile.TemporaryDirectory(prefix="airflow-startup-") as scratch:
        folder = Path(scratch)
        (folder / "release").mkdir()
        wheel = next(build_distributions(folder / "release", "--wheel").glob("*.whl"))
        environments = {
            "without": clean_environment(folder / "without", None),
            "with": clean_environment(folder / "with", wheel),
        }
        home = folder / "home"
        home.mkdir()
        environments["with"].run(home, "airflow", "db", "migrate")
        for words in COMMANDS:
            costs: dict[str, list[float]] = {name: [] for name in environments}
            for number in range(rounds + 1):
                for name, environment in environments.items():
                    cost = cpu_seconds(environment, home, words)
                    if number:  # the first warms caches
                        costs[name].append(cost)
            medians = {name: statistics.median(found) for name, found in costs.items()}
            imports = [watched(environments["with"], home, "airflow", *words) for _ in range(5)]
            ours = min(milliseconds for _, milliseconds in imports)
            late |= ours > LIMIT_MS
            print(f"airflow {' '.join(words)}")
            for name, found in costs.items():
                print(f"  {name:8} {medians[name]:.2f} s ({min(found):.2f}-{max(found):.2f})")
            print(f"  difference of the medians {(medians['with'] - medians['without']) * 1000:+.0f} ms")
            print(f"  importing {', '.join(sorted(imports[0][0])) or 'nothing of ours'}: {ours:.1f} ms")
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
