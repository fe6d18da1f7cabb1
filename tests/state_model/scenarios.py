# SPDX-License-Identifier: Apache-2.0
"""The lives of a task instance that are measured: a scenario is a DAG id, and returns what each of its tries is."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from installation import Airflow, until

if TYPE_CHECKING:
    from collections.abc import Callable


def _edited(af: Airflow, dag_id: str, retries: int, *, latest: bool = False, store: bool = True) -> list[str]:
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.ended(dag_id)
    af.write(dag_id, retries, store=store)
    if retries:
        af.order(dag_id, "succeed", "fail")
    af.clear(dag_id, latest=latest)
    af.ended(dag_id)
    return ["first try, retries 1", f"cleared, file says {retries}", "retry after it"][: 3 if retries else 2]


def retries_and_clears(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "fail", "fail", "succeed", "fail", "succeed")
    af.write(dag_id, 2)
    af.trigger(dag_id)
    af.ended(dag_id)
    af.clear(dag_id)
    af.ended(dag_id)
    return ["first try", "retry", "second retry", "cleared after success", "retry after a clear"]


def clear_after_failure(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "fail", "fail")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.ended(dag_id)
    af.clear(dag_id)
    af.ended(dag_id)
    return ["first try", "retry, failed", "cleared after failure"]


def clear_while_retry_pending(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "fail")
    af.write(dag_id, 1, "Probe(task_id='step', retries=1, retry_delay=timedelta(hours=1))")
    af.trigger(dag_id)
    until("pending retry", lambda: [r for r in af.rows(dag_id) if r["state"] == "up_for_retry" and r["try_number"]])
    af.clear(dag_id)
    af.ended(dag_id)
    return ["first try", "cleared while a retry was pending"]


def clear_while_running(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "wait", "fail")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.started(dag_id)
    af.clear(dag_id, running=True)
    af.ended(dag_id)
    return ["first try", "cleared while running", "retry after it"]


def clear_while_running_worker_lost(af: Airflow, dag_id: str) -> list[str]:
    """The worker dies before it can hear of the clear."""
    af.order(dag_id, "wait")
    af.hold(dag_id, "/heartbeat")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    first = af.started(dag_id)
    af.held(dag_id)
    af.clear(dag_id, running=True)
    os.kill(first["pid"], signal.SIGKILL)
    os.kill(first["supervisor"], signal.SIGKILL)
    af.release(dag_id)
    af.ended(dag_id)
    return ["first try", "cleared while running, worker lost"]


def clear_at_the_end(af: Airflow, dag_id: str) -> list[str]:
    """The clear falls between the end of the work and the supervisor's report of success."""
    af.hold(dag_id, "/state")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.held(dag_id)
    af.clear(dag_id, running=True)
    af.release(dag_id)
    af.ended(dag_id)
    return ["first try", "cleared as it ended"]


def worker_lost(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "wait")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    first = af.started(dag_id)
    os.kill(first["supervisor"], signal.SIGKILL)
    os.kill(first["pid"], signal.SIGKILL)
    af.ended(dag_id)
    return ["first try", "retry after the worker was lost"]


def sibling_cleared(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "wait, fail")
    af.write(dag_id, 1, "Probe(task_id='step', retries=1); Probe(task_id='sibling')")
    af.trigger(dag_id)
    af.started(dag_id)
    until("sibling", lambda: [r for r in af.rows(dag_id) if r["task_id"] == "sibling" and r["state"] == "success"])
    af.clear(dag_id, tasks=["sibling"])
    af.go(dag_id)
    af.ended(dag_id)
    return ["first try", "retry; meanwhile another task of the run was cleared"]


def _edit_while_running(af: Airflow, dag_id: str, retries: int) -> list[str]:
    af.order(dag_id, "wait, fail")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.started(dag_id)
    af.write(dag_id, retries)
    af.noticed(dag_id)
    af.go(dag_id)
    af.ended(dag_id)
    af.clear(dag_id)
    af.ended(dag_id)
    return ["first try, retries 1", f"retry, file says {retries}", "cleared after it"]


def recreated(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "fail", "succeed", "fail")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.ended(dag_id)
    af.delete(dag_id)
    af.trigger(dag_id)
    af.ended(dag_id)
    return ["first try", "retry", "first try of the run made again", "its retry"]


def mapped(af: Airflow, dag_id: str) -> list[str]:
    body = "Probe.partial(task_id='step', retries=1).expand(item=Probe(task_id='make').output)"
    af.order(dag_id, "fail at 1", "succeed", make=['list:["a", "b"]', 'list:["new", "a", "b"]'])
    af.write(dag_id, 1, body)
    af.trigger(dag_id)
    af.ended(dag_id)
    af.clear(dag_id)
    af.ended(dag_id)
    return []


def reschedule(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "reschedule")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.ended(dag_id)
    return ["first try", "the same try after a reschedule"]


def deferral(af: Airflow, dag_id: str) -> list[str]:
    af.order(dag_id, "defer", "fail")
    af.write(dag_id, 1)
    af.trigger(dag_id)
    af.ended(dag_id)
    return ["first try", "the same try after a deferral", "retry after it"]


SCENARIOS: dict[str, Callable[[Airflow, str], list[str]]] = {
    "retries_and_clears": retries_and_clears,
    "clear_after_failure": clear_after_failure,
    "clear_while_retry_pending": clear_while_retry_pending,
    "clear_while_running": clear_while_running,
    "clear_while_running_worker_lost": clear_while_running_worker_lost,
    "clear_at_the_end": clear_at_the_end,
    "worker_lost": worker_lost,
    "sibling_cleared": sibling_cleared,
    "edit_1_to_3_then_clear": lambda af, dag: _edited(af, dag, 3),
    "edit_1_to_3_then_clear_on_latest": lambda af, dag: _edited(af, dag, 3, latest=True),
    "edit_1_to_0_then_clear": lambda af, dag: _edited(af, dag, 0),
    "edit_1_to_0_then_clear_on_latest": lambda af, dag: _edited(af, dag, 0, latest=True),
    "edit_1_to_3_then_clear_before_it_is_stored": lambda af, dag: _edited(af, dag, 3, store=False),
    "edit_1_to_0_then_clear_before_it_is_stored": lambda af, dag: _edited(af, dag, 0, store=False),
    "edit_1_to_3_while_running": lambda af, dag: _edit_while_running(af, dag, 3),
    "edit_1_to_0_while_running": lambda af, dag: _edit_while_running(af, dag, 0),
    "recreated": recreated,
    "mapped": mapped,
    "reschedule": reschedule,
    "deferral": deferral,
}


def dag_test(af: Airflow, dag_id: str) -> list[str]:
    """Twice for the same logical date; without the scheduler, which would take part."""
    import importlib.util

    af.order(dag_id, "fail", "succeed", "fail", "succeed")
    af.write(dag_id, 1)
    path = af.home / "dags" / f"{dag_id}.py"
    spec = importlib.util.spec_from_file_location(dag_id, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for _ in range(2):
        module.dag.test(logical_date=datetime(2026, 1, 1, tzinfo=UTC))
    return ["dag.test", "its retry", "dag.test again, same date", "its retry"]
