# SPDX-License-Identifier: Apache-2.0
"""
What the registry on an MLflow server takes with a thousand versions of a model: to register one more, to register the same content again, to
move an alias, to resolve one, to list all.

The server is the one of the tests, over SQLite, with a store in a folder. Run it as ``python -m benchmarks.mlflow_registry``; the server's
environment is made first if there is none, which takes a minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_mlops.artifacts import Store
from airflow_mlops.registry import MlflowRegistry, promote
from tests.parts.mlflow import running_mlflow
from tests.registry.conftest import maker


def timed(what: str, times: int, action: Callable[[int], Any]) -> None:
    """Do something some times, and say how long it takes."""
    took = []
    for number in range(times):
        began = time.monotonic()
        action(number)
        took.append((time.monotonic() - began) * 1000)
    print(f"{what:28} {statistics.median(took):7.1f} ms in the median of {times}, {max(took):.1f} ms at most")


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=1000)
    arguments = parser.parse_args()
    count = arguments.versions
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlflow").mkdir()
        with running_mlflow(folder / "mlflow") as server:
            store = Store.open((folder / "store").as_uri())
            make = maker(store, folder)
            registry = MlflowRegistry(store, "bench", server.url)
            timed("register, the first ones", 50, lambda _: registry.register("churn", make(), by="me"))
            for _ in range(50, count):
                registry.register("churn", make(), by="me")
            same = [make(b"model %d" % number) for number in range(1, 21)]
            timed("register, after all of them", 20, lambda _: registry.register("churn", make(), by="me"))
            timed("register what is there", 20, lambda number: registry.register("churn", same[number], by="me"))
            timed("promote", 20, lambda number: promote(registry, "churn", number + 1, by="me"))
            timed("move one alias", 20, lambda number: registry.move("churn", {"shadow": number + 1}, by="me"))
            timed("resolve an alias", 50, lambda _: registry.resolve("models:churn@champion"))
            timed("resolve a number", 50, lambda number: registry.resolve(f"models:churn/{number + 1}"))
            timed("list all versions", 5, lambda _: registry.versions("churn"))


if __name__ == "__main__":
    main()
