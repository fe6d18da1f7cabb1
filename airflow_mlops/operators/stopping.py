# SPDX-License-Identifier: Apache-2.0
"""
What a signal to a task means: Airflow wants the step to be stopped, or its worker shuts down and the step may go on without it.

The signal is the same. What tells the two apart is the task's own state, for which the supervisor is asked: a task that was marked, cleared
or deleted is not running any more. No answer means that the API server cannot be reached, which says nothing about the step.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_mlops.operators.adoption import mark_stopped
from airflow_mlops.operators.failures import StepDetached

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.identity import TaskIdentity

ANSWER_WITHIN = 2.0
"""Seconds: Airflow kills the process 5 s after the signal, and something must be left to act in."""


def on_signal(operator: StepOperator, attempt: Attempt) -> None:
    """
    Stop the step's program, or leave it to the next try.

    :raises StepDetached: if it is left, and the process may end at once
    """
    # A timeout of Airflow's own comes from within the process, while the task is as running as before.
    late = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
    state = None if late else state_of(attempt.identity)
    if not late and state in (None, "running") and operator.detaches(attempt):
        operator._detached = True
        operator.log.warning(
            "This worker shuts down (task state: %s); the program goes on, and the next try follows it (on_drain: detach)",
            state or "not known, the API server does not answer",
        )
        if state is None:
            # The process may have been in the middle of a message to its supervisor, which must not be cut in two.
            return
        raise StepDetached(
            f"step '{attempt.identity.task_id}': its worker shut down while its program ran, and the program goes on"
        )
    operator._killed = True
    mark_stopped(attempt)
    operator.stop_program(attempt)


def state_of(identity: TaskIdentity, seconds: float = ANSWER_WITHIN) -> str | None:
    """The state that Airflow has of a task now; ``None`` if it does not answer in time."""
    answer: list[str | None] = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # whatever keeps the answer away, there is none
            answer.append(task_state(identity.dag_id, identity.task_id, identity.run_id, identity.map_index))

    # In a thread, since the signal may have come while this very process talked to its supervisor and holds that lock.
    asking = threading.Thread(target=ask, name="task-state", daemon=True)
    asking.start()
    asking.join(seconds)
    return answer[0] if answer else None


def task_state(dag_id: str, task_id: str, run_id: str, map_index: int) -> str:
    """The state that Airflow has of a task now; ``"None"`` of one that was cleared, or is not there."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index if map_index >= 0 else None
    )
    found = states.get(run_id) or {}
    return str(next(iter(found.values()), None))


def leave_behind(what: dict[str, Any], attempt: Attempt) -> None:
    """
    Start a process that ends and removes an attempt although this process may be killed before.

    :param what: how the program is ended; see :mod:`airflow_mlops.operators.reaper`
    """
    local = attempt.store.local_path(attempt.key)
    manifest = attempt.store.local_path(attempt.identity.place.manifest_key)
    order = {
        **what,
        "task_process": os.getpid(),
        "scratch": str(attempt.workspace),
        "folder": str(local) if local is not None else None,
        "manifest": str(manifest) if manifest is not None else None,
    }
    reaper = subprocess.Popen(  # noqa: S603 - a module of our own
        [sys.executable, "-P", "-m", "airflow_mlops.operators.reaper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert reaper.stdin is not None  # noqa: S101 - asked for above
    with contextlib.suppress(OSError), reaper.stdin as pipe:
        pipe.write(json.dumps(order).encode())
