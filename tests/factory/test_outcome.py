# SPDX-License-Identifier: Apache-2.0
"""A failure behind a skip fails the run; a DAG in which none can hide has no task for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.factory import pipeline_dag
from airflow_mlops.spec.outcome import OUTCOME

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

HEAD = """
apiVersion: mlops/v1
name: p
defaults: {runtime: process}
steps:
- {name: a, kind: evaluate, command: [sh, -c, "echo '{\\"n\\": 1}' > $MLOPS_OUTPUT_M"], outputs: {m: metrics}}
- {name: b, kind: container, needs: [a], command: ["false"]}
"""
SKIPS = "- {name: g, kind: gate, on_fail: skip, inputs: {m: a.m}, require: ['m.n > 2']}\n"


def outcome(folder: Path, steps: str) -> set[str] | None:
    """What the task waits for; ``None`` without one."""
    spec = folder / "p.yaml"
    spec.write_text(HEAD + steps)
    dag = pipeline_dag(spec)
    return dag.get_task(OUTCOME).upstream_task_ids if OUTCOME in dag.task_ids else None


@pytest.mark.parametrize(
    ("steps", "waits_for"),
    [
        ("", None),
        (SKIPS, None),
        (SKIPS + "- {name: c, kind: container, needs: [g], command: [x]}\n", None),
        (SKIPS + "- {name: c, kind: container, needs: [b, g], command: [x]}\n", {"b", "c", "g"}),
        (
            "- {name: g, kind: approve, on_reject: skip}\n- {name: c, kind: container, needs: [b, g], command: [x]}\n",
            {"b", "c", "g"},
        ),
        ("- {name: g, kind: approve}\n- {name: c, kind: container, needs: [b, g], command: [x]}\n", None),
        (SKIPS.replace("on_fail: skip, ", "") + "- {name: c, kind: container, needs: [b, g], command: [x]}\n", None),
        (
            SKIPS + "- {name: c, kind: container, needs: [g], command: [x]}\n"
            "- {name: d, kind: container, needs: [b], command: [x]}\n- {name: e, kind: container, needs: [c, d], command: [x]}\n",
            {"c", "d", "e"},
        ),
    ],
)
def test_only_where_a_failure_could_hide_there_is_a_task_for_it(
    tmp_path: Path, steps: str, waits_for: set[str] | None
) -> None:
    assert outcome(tmp_path, steps) == waits_for


@pytest.mark.airflow
@pytest.mark.slow
def test_a_failure_behind_a_closed_gate_fails_the_run(run_dag: RunDag) -> None:
    steps = SKIPS + "- {name: c, kind: container, needs: [b, g], command: [x]}\n"
    slow = HEAD.replace('["false"]', '[sh, -c, "sleep 3; false"]')  # the skip comes first
    text = "from airflow_mlops import pipeline_dag\ndag = pipeline_dag('p.yaml')\n"
    result = run_dag(
        text,
        beside={
            "p.yaml": slow.replace("needs: [a]", "needs: [g2]")
            + steps
            + SKIPS.replace("name: g,", "name: g2,").replace("> 2", "> 0")
        },
    )
    assert result.tasks["c"] == "skipped" and result.tasks["b"] == "failed", result.tasks
    assert (result.tasks[OUTCOME], result.state) == ("upstream_failed", "failed")
