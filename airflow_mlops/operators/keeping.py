# SPDX-License-Identifier: Apache-2.0
"""
Evidence: what a failed attempt leaves for a person to look at (``keep_failed``), and for how long.

A note beside the attempt's seal says until when. Whoever comes by after that (the next try, ``clean``) removes it.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mlops.artifacts import ArtifactError, NotFound, Seal
from airflow_mlops.artifacts.attempts import KEPT
from airflow_mlops.artifacts.layout import STEP
from airflow_mlops.operators import scratch
from airflow_mlops.operators.failures import OutOfMemory, OutputsRefused, ProgramFailed, StepTimeout

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator

_EVIDENCE = tuple(kind.failure_class for kind in (ProgramFailed, OutOfMemory, OutputsRefused, StepTimeout))
"""Failures of the program itself: of no other one is there anything to see."""


def keep(operator: StepOperator, attempt: Attempt, failure: BaseException) -> bool:
    """Keep what a failed attempt left, if its step says so and its program is why it failed; whether it is kept."""
    if not operator.keep_failed or not str(failure).startswith(_EVIDENCE):
        return False
    scratch.remove_secrets(scratch.memory_folder(attempt.workspace))
    until = time.time() + operator.keep_failed.total_seconds()
    note = json.dumps({"version": 1, "until": round(until)}).encode()
    try:
        attempt.store.put_if_absent(f"{attempt.key}/{KEPT}", note)
    except (ArtifactError, OSError) as error:
        operator.log.warning("What attempt %s left is not kept: %s", attempt.id, error)
        return False
    operator.log.info(
        "What attempt %s left is kept until %s: its files in %s%s",
        attempt.id,
        datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        attempt.workspace,
        operator.evidence(attempt),
    )
    return True


def remember(operator: StepOperator, attempt: Attempt) -> None:
    """Keep what a failed attempt had started, a small document, so that a person can open the same place again (``shell``)."""
    try:
        seal = Seal.from_bytes(attempt.store.read(f"{attempt.key}/{STEP}", Seal.limit))
        if seal.runtime is not None:
            runtime = seal.runtime.model_copy(update={"image_id": operator.image_id()})
            key = attempt.identity.place.failed_step_key(attempt.identity.try_number)
            attempt.store.put_if_absent(key, seal.model_copy(update={"runtime": runtime}).to_bytes(), durable=False)
    except NotFound:
        return  # it failed before there was anything to start
    except (ArtifactError, OSError) as error:
        operator.log.warning("What attempt %s had started is not written down: %s", attempt.id, error)
