# SPDX-License-Identifier: Apache-2.0
"""The DAG of a run: imported from its file, stored for the scheduler, and triggered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.embedded import compat
from airflow_mlops.cli.embedded.model import DagRefused

if TYPE_CHECKING:
    from pathlib import Path


def load(file: Path, dag_id: str) -> list[str]:
    """
    Import a DAG file and store its DAGs in the database.

    :return: the DAG's task ids in topological order
    :raises DagRefused: if the file does not import, or has no such DAG, or the DAG cannot be serialised
    """
    bag = compat.load_dags(file)
    if bag.import_errors:
        raise DagRefused("\n".join(text.strip() for text in bag.import_errors.values()))
    dag = bag.dags.get(dag_id)
    if dag is None:
        raise DagRefused(
            f"the DAG file defines {', '.join(sorted(bag.dags)) or 'no DAG'}; expected one with the id {dag_id!r}"
        )
    compat.store_dags(bag)
    _require_stored()
    _make_pools({task.pool for task in dag.tasks})
    return [task.task_id for task in dag.topological_sort()]


def trigger(dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
    """
    Make the run, for the scheduler to find; a DAG that is made paused is unpaused.

    :raises DagRefused: if the DAG does not take these parameters, or no manual runs
    """
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.dag import DagModel
    from airflow.providers.common.compat.sdk import AirflowException
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id == dag_id).values(is_paused=False))
    try:
        trigger_dag(dag_id=dag_id, run_id=run_id, conf=conf, logical_date=None, triggered_by=DagRunTriggeredByType.CLI)
    except (AirflowException, ValueError) as error:
        raise DagRefused(f"the DAG {dag_id!r} does not take this run: {error}") from error


def _make_pools(names: set[str]) -> None:
    """The pools of a deployment limit what its tasks take together; a run of one's own has them all, without limits."""
    from airflow.models.pool import Pool

    for name in sorted(names):
        Pool.create_or_update_pool(name, slots=-1, description="", include_deferred=False)


def _require_stored() -> None:
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        errors = list(session.scalars(select(ParseImportError.stacktrace)))
    if errors:
        raise DagRefused("\n".join(str(text).strip() for text in errors))
