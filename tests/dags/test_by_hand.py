# SPDX-License-Identifier: Apache-2.0
"""The operators in a DAG that is written by hand: mixed with tasks, mapped over lists, in task groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts.images import ROOT

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

FOLDER = ROOT / "dags" / "by-hand"


def sources(folder: Path = FOLDER / "src") -> dict[str, str]:
    return {f"src/{file.name}": file.read_text(encoding="utf-8") for file in folder.glob("*.py")}


def test_steps_tasks_mapping_and_groups_work_together(run_dag: RunDag) -> None:
    text = (FOLDER / "by_hand_dag.py").read_text(encoding="utf-8")
    done = run_dag(text, conf={"share": 0.5}, beside=sources())
    assert done.state == "success", done.log[-3000:]
    assert done.xcoms["split"]["parameters"]["rows"] == 100  # the run's own share reached the program
    assert done.xcoms["penalties"] == [{"PENALTY": "0.0"}, {"PENALTY": "10.0"}, {"PENALTY": "1000.0"}]
    slopes = [done.xcoms[f"fit[{index}]"]["parameters"]["slope"] for index in range(3)]
    assert slopes == sorted(slopes, reverse=True)
    assert done.xcoms["steepest"] == slopes[0]
    errors = [done.xcoms[f"candidate.check[{index}]"]["metrics"]["metrics"]["rmse"] for index in range(3)]
    assert len(set(errors)) == 3  # each check read the model of its own fit
    assert done.xcoms["best"] == {"rmse": min(errors)}


def test_another_task_gets_values_and_artifacts_by_their_names(run_dag: RunDag) -> None:
    done = run_dag(
        """
        from airflow.sdk import DAG, task
        from airflow_mlops import ProcessPreprocessOperator

        with DAG("mixed") as dag:
            make = ProcessPreprocessOperator(
                task_id="make",
                command=["sh", "-c", 'echo 5 > "$MLOPS_OUTPUT_ROWS"; echo x > "$MLOPS_OUTPUT_DATA"'],
                outputs={"data": "dataset", "rows": "integer"},
            )
            many = ProcessPreprocessOperator(
                task_id="other", command=["sh", "-c", 'echo 6 > "$MLOPS_OUTPUT_ROWS"'], outputs={"rows": "integer"}
            )

            @task
            def look(rows, data, wanted):
                return [rows, data["type"], data["uri"].rpartition("/")[2], wanted]

            look(make.artifact("rows"), make.artifact("data"), [many.artifact("rows")])
        """
    )
    assert done.state == "success", done.log[-3000:]
    assert done.xcoms["look"] == [5, "dataset", "data", [6]]
