# SPDX-License-Identifier: Apache-2.0
"""``pipeline_dag``: the one line of a DAG file that makes a DAG of a spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup

from airflow_mlops.factory.callbacks import CallbackFactory
from airflow_mlops.factory.schedules import schedule_of
from airflow_mlops.factory.tasks import TaskFactory
from airflow_mlops.operators.settings import configured_environment
from airflow_mlops.spec.graph import Group, Pipeline, Step
from airflow_mlops.spec.loading import load_pipeline, quiet_collector

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator


def pipeline_dag(path: str | Path, *, environment: str | None = None, runtime: str | None = None) -> DAG:
    """
    Make a DAG of a pipeline spec.

    The same spec gives the same DAG, so that an unchanged one makes no new DAG version. Nothing is asked of the network or a database.

    :param path: the spec; relative to the file that calls this
    :param environment: overlay to apply; default ``[mlops] environment``, where the spec has such an overlay
    :param runtime: runtime of all steps that run a program, whatever the spec says
    :raises SpecError: with every problem of the spec, each with file, line and column
    """
    file = Path(path)
    if not file.is_absolute():
        caller = sys._getframe(1).f_globals.get("__file__")
        file = Path(caller).absolute().parent / file if caller else file.absolute()
    # What a DAG is made of lives as long as the DAG: looking through it for garbage half-way finds nothing.
    with quiet_collector():
        pipeline = load_pipeline(
            file, environment=environment, runtime=runtime, default_environment=configured_environment()
        )
        return build_dag(pipeline)


def build_dag(pipeline: Pipeline) -> DAG:
    """The DAG of a pipeline that was read and checked."""
    spec = pipeline.spec
    callbacks = CallbackFactory(pipeline)
    dag = DAG(
        dag_id=spec.name,
        description=spec.description or None,
        schedule=schedule_of(pipeline),
        start_date=spec.start_date,
        catchup=bool(spec.catchup),
        params={
            name: Param(param.default, **param.schema) if param.has_default else Param(**param.schema)
            for name, param in pipeline.params.items()
        },
        tags=list(spec.tags or ()),
        doc_md=spec.description or None,
        **_optional(
            dag_display_name=spec.display_name,
            owner_links=spec.owner_links,
            max_active_runs=spec.max_active_runs,
            dagrun_timeout=spec.timeout,
            deadline=callbacks.deadline(spec.deadline),
            **callbacks.of(spec.callbacks),
        ),
    )
    nodes = _build_group(pipeline.root, dag, None, TaskFactory(pipeline, dag, callbacks))
    _connect(pipeline.root, nodes)
    return dag


def _optional(**arguments: Any) -> dict[str, Any]:
    """The arguments that say something; for the others, Airflow has defaults of its own."""
    return {name: value for name, value in arguments.items() if value}


Nodes = dict[tuple[str, ...], Any]
"""Tasks and task groups by path."""


def _build_group(group: Group, dag: DAG, task_group: TaskGroup | None, tasks: TaskFactory) -> Nodes:
    nodes: Nodes = {}
    for child in group.children:
        if isinstance(child, Step):
            nodes[child.path] = tasks.make(child, task_group)
        else:
            box = TaskGroup(
                group_id=child.path[-1],
                dag=dag,
                parent_group=task_group,
                tooltip=child.description,
                group_display_name=child.display_name or "",
                prefix_group_id=True,
            )
            nodes[child.path] = box
            nodes.update(_build_group(child, dag, box, tasks))
    return nodes


def _connect(group: Group, nodes: Nodes) -> None:
    """Order the tasks: what hands something over comes first, and so does what is needed."""
    for child in group.children:
        if isinstance(child, Step):
            upstream = dict.fromkeys([*(item.step for item in child.inputs.values()), *child.needs])
        else:
            _connect(child, nodes)
            upstream = dict.fromkeys(child.needs)
        if upstream:
            task: BaseOperator | TaskGroup = nodes[child.path]
            task.set_upstream([nodes[path] for path in upstream])
