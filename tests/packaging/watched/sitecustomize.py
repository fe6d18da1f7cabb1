# SPDX-License-Identifier: Apache-2.0
"""
Loaded by every Python process that has this folder on its path: notes which of our modules it imports, and how long that takes.

``-X importtime`` does not see what ``importlib.import_module`` imports, and that is how Airflow imports a provider.
"""

import atexit
import json
import os
import sys
import time
from contextlib import contextmanager
from importlib.machinery import PathFinder

OURS = ("airflow_mlops", "airflow_provider_mlops")


class Watch:
    """A finder, before all others, of our modules alone."""

    names: list = []
    running = 0
    seconds = 0.0

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in OURS:
            return None
        with cls.timed():
            spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def timed(module):
                cls.names.append(name)
                with cls.timed():
                    load(module)

            spec.loader.exec_module = timed
        return spec

    @classmethod
    @contextmanager
    def timed(cls):
        """Count what is not within the import of another of our modules."""
        started, cls.running = time.perf_counter(), cls.running + 1
        try:
            yield
        finally:
            cls.running -= 1
            if not cls.running:
                cls.seconds += time.perf_counter() - started


@atexit.register
def report():
    with open(os.environ["WATCHED_IMPORTS"], "a") as file:
        file.write(json.dumps({"names": Watch.names, "milliseconds": Watch.seconds * 1000}) + "\n")


sys.meta_path.insert(0, Watch)
