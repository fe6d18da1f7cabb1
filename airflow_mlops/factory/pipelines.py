# SPDX-License-Identifier: Apache-2.0
"""``pipeline_dag``: the one line of a DAG file that makes a DAG of a spec."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup

from airflow_mlops.factory.callbacks import CallbackFactory
from airflow_mlops.factory.outcome import add_outcome
from airflow_mlops.factory.schedules import schedule_of
from airflow_mlops.factory.tasks import TaskFactory
from airflow_mlops.operators.settings import configured_environment
from airflow_mlops.spec.graph import Group, Pipeline, Step
from airflow_mlops.spec.loading import load_pipeline, quiet_collector
from airflow_mlops.spec.problems import SpecError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_mlops.spec.graph import Param as SpecParam


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
    """
    The DAG of a pipeline that was read and checked.

    :raises SpecError: if it calls back what this deployment does not allow or have
    """
    spec = pipeline.spec
    callbacks = CallbackFactory(pipeline)
    dag = DAG(
        dag_id=spec.name,
        description=_first_paragraph(spec.description) or None,
        schedule=schedule_of(pipeline),
        start_date=spec.start_date,
        catchup=bool(spec.catchup),
        params={name: _param(param) for name, param in pipeline.params.items()},
        tags=list(spec.tags or ()),
        doc_md=_documentation(pipeline),
        **_optional(
            dag_display_name=spec.display_name,
            owner_links=spec.owner_links,
            max_active_runs=1 if spec.schedule == "@continuous" else spec.max_active_runs,
            dagrun_timeout=spec.timeout,
            deadline=callbacks.deadline(spec.deadline),
            **callbacks.of(spec.callbacks),
        ),
    )
    nodes = _build_group(pipeline.root, dag, None, TaskFactory(pipeline, dag, callbacks))
    _connect(pipeline.root, nodes)
    add_outcome(dag, [step.task_id for step in pipeline.steps() if _may_skip_itself(step)])
    if callbacks.problems:
        raise SpecError(callbacks.problems)
    return dag


def _may_skip_itself(step: Step) -> bool:
    """Whether a step may end as skipped although nothing before it was. An operator of Airflow's may do anything."""
    spec = step.spec
    skips = {"operator": True, "gate": spec.on_fail == "skip", "approve": spec.on_reject == "skip"}
    return skips.get(spec.kind, False)


def _optional(**arguments: Any) -> dict[str, Any]:
    """The arguments that say something; for the others, Airflow has defaults of its own."""
    return {name: value for name, value in arguments.items() if value}


def _first_paragraph(text: str) -> str:
    """What a line of Airflow's UI has room for, without the Markdown that it would show as it is; all of it is the DAG's documentation."""
    line = " ".join(text.strip().partition("\n\n")[0].split())
    return re.sub(r"\[([^\]]+)\]\([^)\s]*\)", r"\1", line).replace("**", "").replace("`", "").lstrip("# ")


def _documentation(pipeline: Pipeline) -> str:
    """
    The description, and which text of the spec this is. Airflow sees nothing of what a step runs; by this, each change of the spec is one new
    DAG version.
    """
    digest = hashlib.sha256(pipeline.file.read_bytes()).hexdigest()[:16]
    text = pipeline.spec.description.rstrip()
    return f"{text}\n\n---\n" * bool(text) + f"`{pipeline.file.name}`, SHA-256 `{digest}…`"


def _param(param: SpecParam) -> Param:
    """
    A parameter of the trigger form, with its range in the text below the field: the form puts what lies outside onto the nearest bound, and
    tells nobody.
    """
    schema = param.schema
    if limits := _range(schema):
        description = schema.get("description", "").rstrip()
        schema = {**schema, "description": f"{description} ({limits})" if description else limits}
    return Param(param.default, **schema) if param.has_default else Param(**schema)


def _range(schema: dict[str, Any]) -> str:
    """The numbers that a parameter may have, in words; empty if all."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None and above is None and below is None:
        return f"{low} to {high}"
    words = {"at least": low, "more than": above, "at most": high, "less than": below}
    return ", ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)


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
            upstream = dict.fromkeys(
                [*(item.step for item in child.inputs.values() if item.model is None), *child.needs]
            )
        else:
            _connect(child, nodes)
            upstream = dict.fromkeys(child.needs)
        if upstream:
            task: BaseOperator | TaskGroup = nodes[child.path]
            task.set_upstream([nodes[path] for path in upstream])
