# SPDX-License-Identifier: Apache-2.0
"""
A failure must not hide behind a skip.

Airflow judges a run by the tasks that nothing follows. A task that waits for two is skipped as soon as one of them is, so that the other may
fail afterwards in a run that succeeds. Where that can happen, one more task follows what might be hidden. The scheduler settles it without
starting a process.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from airflow_mlops.spec.outcome import OUTCOME

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG


def add_outcome(dag: DAG, may_skip: Collection[str]) -> None:
    """
    Have the run fail if any of its tasks has.

    :param dag: the DAG with all its tasks and their order
    :param may_skip: ids of the tasks that may skip themselves
    """
    hidden = _hidden_behind_skips(dag, may_skip)
    if not hidden:
        return
    from airflow.providers.standard.operators.empty import EmptyOperator

    ends = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    outcome = EmptyOperator(
        task_id=OUTCOME,
        task_display_name="outcome",
        trigger_rule="none_failed",
        doc_md="Fails the run if a step has failed that another, skipped one waited for.",
        dag=dag,
    )
    outcome.set_upstream([dag.get_task(task_id) for task_id in sorted(hidden | ends)])


def _hidden_behind_skips(dag: DAG, may_skip: Collection[str]) -> set[str]:
    """Tasks that another one waits for which is skipped when a third one is."""
    skippable: set[str] = set()
    pending = list(may_skip)
    while pending:
        task_id = pending.pop()
        if task_id not in skippable:
            skippable.add(task_id)
            pending.extend(dag.get_task(task_id).downstream_task_ids)
    return {
        before
        for task in dag.tasks
        if len(task.upstream_task_ids) > 1 and task.upstream_task_ids & skippable
        for before in task.upstream_task_ids
    }
