# SPDX-License-Identifier: Apache-2.0
"""An operator of Airflow's kind, as ``kind: operator`` wraps it: ``lives.py`` puts it beside its DAG files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator


class Deferring(BaseOperator):
    """
    Note each run, defer itself if it is told to, and fail while there is a line left in a file.

    :param ran: file with a line for each run
    :param fail: file with a line for each failure that is left
    """

    def __init__(self, *, ran: str, fail: str, defer: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ran, self.failures, self.defers = Path(ran), Path(fail), defer

    def execute(self, context: Any) -> Any:
        with self.ran.open("a") as file:
            file.write("ran\n")
        if self.defers:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=0)), method_name="go_on", kwargs={"number": 8})
        return self.go_on(context)

    def go_on(self, context: Any, event: Any = None, number: int = 0) -> int:
        """End well, or not."""
        left = self.failures.read_text().splitlines() if self.failures.exists() else []
        if left:
            self.failures.write_text("".join(f"{line}\n" for line in left[1:]))
            raise ValueError("as ordered")
        return number
