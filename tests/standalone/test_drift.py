# SPDX-License-Identifier: Apache-2.0
"""The examples of drift in a real Airflow: an event trains once, the next one too soon not at all, and its champion ends the drift."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.dags.by_hand import EXAMPLES, need_sklearn

if TYPE_CHECKING:
    from tests.parts.standalone import Standalone

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

ASSET = "mlops://drift/breast-cancer"
STEPS = ("age", "cooled-down", "drifted", "fit", "check", "better", "register")


def add(standalone: Standalone, name: str) -> None:
    """Drop an example into the folder of DAGs, without its times."""
    folder = EXAMPLES / name
    code = {f"src/{file.name}": file.read_text(encoding="utf-8") for file in folder.glob("src/*.py")}
    spec = (folder / "pipeline.yaml").read_text(encoding="utf-8").replace('schedule: "@daily"\n', "")
    standalone.add(name, spec, {".airflowignore": "src/\n", **code}, wait=False)


def retrainings(standalone: Standalone) -> list[dict[str, Any]]:
    found = standalone.get("dags/drift-retrain/dagRuns", order_by="run_after")["dag_runs"]
    assert {run["run_type"] for run in found} <= {"asset_triggered"}
    return list(found)


def watch(standalone: Standalone) -> tuple[dict[str, str], dict[str, float]]:
    """A run of drift-watch on drifted rows: the states of its tasks, and what it measured."""
    run = standalone.trigger("drift-watch", shift=1)
    assert standalone.wait("drift-watch", run) == "success"
    return standalone.tasks("drift-watch", run), standalone.xcom("drift-watch", run, "compare")["metrics"]["metrics"]


def test_drift_trains_once_and_the_next_rows_are_compared_with_what_the_new_champion_knows(
    standalone: Standalone,
) -> None:
    need_sklearn()
    for name in ("drift-watch", "drift-retrain"):
        add(standalone, name)
    for name in ("drift-watch", "drift-retrain"):
        standalone.unpause(name)

    tasks, measured = watch(standalone)
    assert set(tasks.values()) == {"success"} and measured["drifted_columns"] == 9
    (asset,) = standalone.get("assets", uri_pattern=ASSET)["assets"]
    (event,) = standalone.get("assets/events", asset_id=asset["id"])["asset_events"]
    assert event["extra"]["metrics"] == {"metrics": measured}

    # Two more events while the first one's run is under way: they wait for its end, and come too soon after it.
    standalone.until("a retraining", lambda: retrainings(standalone))
    body = {"asset_id": asset["id"], "extra": event["extra"]}
    told = [standalone.request("POST", "assets/events", json=body)["timestamp"] for _ in range(2)]
    standalone.until("another one", lambda: len(retrainings(standalone)) > 1)
    states = []
    for run in [run["dag_run_id"] for run in retrainings(standalone)]:
        assert standalone.wait("drift-retrain", run) == "success"
        tasks = standalone.tasks("drift-retrain", run)
        states.append({step: tasks[step] for step in STEPS})
    trained, skipped = dict.fromkeys(STEPS, "success"), {**dict.fromkeys(STEPS, "skipped"), "age": "success"}
    assert states == [trained, *[skipped] * (len(states) - 1)]
    runs = retrainings(standalone)
    assert max(told) < runs[0]["end_date"]
    assert all(before["end_date"] <= after["start_date"] for before, after in pairwise(runs))
    registered = standalone.xcom("drift-retrain", runs[0]["dag_run_id"], "register")["parameters"]
    assert registered == {"version": 1, "reference": "models:breast-cancer-drift/1", "created": True}

    # The same rows once more: the champion was trained on such, so they are no drift any more, and nobody is told.
    tasks, measured = watch(standalone)
    assert (tasks["drifted"], tasks["announce"], measured["drifted_columns"]) == ("skipped", "skipped", 0)
    assert len(standalone.get("assets/events", asset_id=asset["id"])["asset_events"]) == 1 + len(told)
