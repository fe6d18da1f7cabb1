# SPDX-License-Identifier: Apache-2.0
"""
How the tasks before a step ended, where that is not the same for all of them.

A step with an optional input also starts when some of them were skipped. What a skipped task handed on in an earlier time, before it was
cleared, is still in Airflow's database; only its state says that it does not count.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_mlops.operators.program import StepInput

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator

SUCCESS, SKIPPED = "success", "skipped"


def states_of(ti: Any, task_ids: Collection[str]) -> dict[str, str | None]:
    """
    The states of tasks in this run, as the supervisor knows them: of a mapped one, the state of the instance with the same index.

    :param ti: the task instance of the template context
    """
    if not task_ids:
        return {}
    found = ti.get_task_states(dag_id=ti.dag_id, task_ids=sorted(task_ids), run_ids=[ti.run_id])
    by_key = found.get(ti.run_id, {})
    states = {task: by_key.get(task, by_key.get(f"{task}_{ti.map_index}")) for task in task_ids}
    return {task: None if state is None else str(getattr(state, "value", state)) for task, state in states.items()}


def ensure_needed(operator: StepOperator, context: Any) -> None:
    """
    Skip a spec's step that starts without optional inputs, where something that it cannot do without was skipped: a gate, above all.

    :raises AirflowSkipException: if that is so
    """
    if operator.program is None:
        return
    wires = [wire for wire in operator.program.inputs.values() if isinstance(wire, StepInput)]
    optional = {wire.task_id for wire in wires if wire.optional} - {wire.task_id for wire in wires if not wire.optional}
    if not optional:
        return
    states = states_of(context["ti"], operator.upstream_task_ids - optional)
    if skipped := sorted(task for task, state in states.items() if state == SKIPPED):
        raise AirflowSkipException(f"step '{operator.task_id}' is skipped, since {', '.join(skipped)} was")
