# SPDX-License-Identifier: Apache-2.0
"""
Run the DAG of one file as ``dag.test()`` does and write what came of it: ``python dag_test.py FILE CONF_JSON
ANSWER_FILE``.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any


def name_of(row: Any) -> str:
    """Return the task id, with the map index of a mapped task's instance."""
    return str(row.task_id) if row.map_index < 0 else f"{row.task_id}[{row.map_index}]"


def main(file: str, conf: str, answer: str) -> None:
    """Run it; an exception while parsing or running goes to the caller's log."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    dag = runpy.run_path(file)["dag"]
    run = dag.test(run_conf=json.loads(conf))
    with create_session() as session:
        tasks = session.scalars(
            select(TaskInstance).where(TaskInstance.dag_id == dag.dag_id, TaskInstance.run_id == run.run_id)
        ).all()
        of_run = (XComModel.dag_id == dag.dag_id, XComModel.run_id == run.run_id, XComModel.key == "return_value")
        xcoms = session.scalars(select(XComModel).where(*of_run)).all()
        result = {
            "state": str(run.state.value),
            "run_id": run.run_id,
            "tasks": {name_of(task): str(getattr(task.state, "value", task.state)) for task in tasks},
            "xcoms": {name_of(xcom): XComModel.deserialize_value(xcom) for xcom in xcoms},
        }
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
