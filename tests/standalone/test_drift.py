# SPDX-License-Identifier: Apache-2.0
"""The examples of drift in a real Airflow: an event trains once, the next one too soon not at all, and its champion ends the drift."""

from __future__ import annotations

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

    states, measured = watch(standalone)
    assert set(states.values()) == {"success"} and measured["drifted_columns"] == 9
    (asset,) = standalone.get("assets", uri_pattern=ASSET)["assets"]
    (event,) = standalone.get("assets/events", asset_id=asset["id"])["asset_events"]
    assert event["extra"]["metrics"] == {"metrics": measured}

    # Another event while the first one's run is under way. It waits for the end of that, and comes too soon after it.
    standalone.until("a retraining", lambda: retrainings(standalone))
    standalone.request("POST", "assets/events", json={"asset_id": asset["id"], "extra": event["extra"]})
    standalone.until("another one", lambda: len(retrainings(standalone)) == 2)
    runs = [run["dag_run_id"] for run in retrainings(standalone)]
    assert [standalone.wait("drift-retrain", run) for run in runs] == ["success", "success"]
    states = standalone.tasks("drift-retrain", runs[0])
    assert {step: states[step] for step in STEPS} == dict.fromkeys(STEPS, "success")
    states = standalone.tasks("drift-retrain", runs[1])
    assert {step: states[step] for step in STEPS} == {**dict.fromkeys(STEPS, "skipped"), "age": "success"}
    first, second = retrainings(standalone)
    assert first["end_date"] <= second["start_date"]
    assert second["queued_at"] < first["end_date"]
    registered = standalone.xcom("drift-retrain", runs[0], "register")["parameters"]
    assert registered == {"version": 1, "reference": "models:breast-cancer-drift/1", "created": True}

    # The same rows once more: the champion was trained on such, so they are no drift any more, and nobody is told.
    states, measured = watch(standalone)
    assert (states["drifted"], states["announce"], measured["drifted_columns"]) == ("skipped", "skipped", 0)
    assert len(standalone.get("assets/events", asset_id=asset["id"])["asset_events"]) == 2
