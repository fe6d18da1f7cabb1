# SPDX-License-Identifier: Apache-2.0
"""
Gates and approvals whose worker dies when it knows how they end, and has not said so: ``lives.py`` and ``approvals.py`` put them beside their DAG
files.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlops.operators import ApproveOperator, GateOperator


class DyingGate(GateOperator):
    """
    Kill the supervisor and itself at the first verdict.

    :param ran: file with a line for each verdict
    """

    def __init__(self, *, ran: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ran = Path(ran)

    def conclude(self, reference: Mapping[str, Any]) -> None:
        is_first = not self.ran.exists()
        with self.ran.open("a") as file:
            file.write("ran\n")
        if is_first:
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        super().conclude(reference)


class CountedApproval(ApproveOperator):
    """
    Note each time that somebody is asked.

    :param ran: file with a line for each
    """

    def __init__(self, *, ran: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ran = Path(ran)

    def _ask(self, *arguments: Any) -> dict[str, Any]:
        with self.ran.open("a") as file:
            file.write("ran\n")
        return super()._ask(*arguments)


class DyingApproval(CountedApproval):
    """Kill the supervisor and itself when the answer is there, once."""

    def conclude(self, reference: Mapping[str, Any]) -> None:
        died = self.ran.with_suffix(".died")
        if not died.exists():
            died.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        super().conclude(reference)
