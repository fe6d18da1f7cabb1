# SPDX-License-Identifier: Apache-2.0
"""
What the callbacks of tests call: each writes down that it was called, in the file that the environment names.

It lies in Airflow's folder of plugins, which all of its components can import from.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import BaseNotifier


def _note(**facts: Any) -> None:
    with Path(os.environ["MLOPS_TEST_CALLS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts, sort_keys=True) + "\n")


def page(context: Any, word: str = "") -> None:
    """A function as a callback."""
    task = context.get("task_instance")
    run = context["dag_run"]
    _note(
        what="page",
        word=word,
        task=getattr(task, "task_id", None),
        run=getattr(run, "run_id", None) or run["dag_run_id"],
    )


async def late(context: Any, word: str = "") -> None:
    """A function that can be awaited, as a deadline's callback."""
    _note(what="late", word=word, run=context["dag_run"]["dag_run_id"])


class Bell(BaseNotifier):
    """A notifier that says what its template became."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Ring."""
        _note(what="bell", text=self.text)
