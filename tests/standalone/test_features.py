# SPDX-License-Identifier: Apache-2.0
"""What a spec asks of Airflow's own features, done by a real Airflow: schedules, assets, backfills, pools, callbacks, deadlines, timeouts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.parts.standalone import Standalone

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

HEAD = "apiVersion: mlops/v1\nname: {0}\ndefaults: {{runtime: process}}\n"
TRAIN = """steps:
  - name: fit
    kind: train
    command: [sh, -c, 'printf "weights of $MLOPS_PARAM_WORD" > "$MLOPS_OUTPUT_MODEL"; echo "{\\"auc\\": 0.9}" > "$MLOPS_OUTPUT_METRICS"']
    params: [word]
    outputs: {model: {type: model, asset: true}, metrics: metrics}
"""
FAIL = 'steps:\n  - {name: fail, kind: container, command: [sh, -c, "exit 3"]}\n'


def calls(standalone: Standalone, what: str, run: str) -> list[dict[str, Any]]:
    """What was called about a run so far."""
    if not standalone.calls.exists():
        return []
    made = [json.loads(line) for line in standalone.calls.read_text().splitlines()]
    return [call for call in made if call["what"] == what and call.get("run") == run]


def runs_of(standalone: Standalone, dag: str, kind: str) -> list[dict[str, Any]]:
    found = standalone.get(f"dags/{dag}/dagRuns")["dag_runs"]
    return [run for run in found if run["run_type"] == kind]


def test_a_pipeline_runs_when_a_model_of_another_one_is_committed_and_gets_that_model(standalone: Standalone) -> None:
    standalone.add(
        "score",
        HEAD.format("score")
        + """schedule: {assets: {any: ["mlops://train-model/fit/model"]}}
steps:
  - {name: model, kind: import, type: model, asset: "mlops://train-model/fit/model"}
  - name: use
    kind: predict
    inputs: {model: model.model}
    command: [cat, "{{ inputs.model.path }}"]
""",
    )
    standalone.add("train-model", HEAD.format("train-model") + "params: {word: one}\n" + TRAIN)
    first = standalone.trigger("train-model", word="one")
    assert standalone.wait("train-model", first) == "success"
    made = standalone.xcom("train-model", first, "fit")

    def triggered() -> list[dict[str, Any]]:
        return runs_of(standalone, "score", "asset_triggered")

    (run,) = standalone.until("run of score by the asset", triggered)
    assert standalone.wait("score", run["dag_run_id"]) == "success"
    got = standalone.xcom("score", run["dag_run_id"], "model")
    assert got["artifacts"]["model"] == made["artifacts"]["model"]
    lines = [line["event"] for line in standalone.task_log("score", run["dag_run_id"], "use")]
    assert "weights of one" in lines
    # Not what the step has made beside the model.
    (asset,) = standalone.get("assets", uri_pattern="mlops://train-model")["assets"]
    assert asset["uri"] == "mlops://train-model/fit/model"
    (event,) = standalone.get("assets/events", asset_id=asset["id"])["asset_events"]
    assert event["extra"]["digest"] == made["artifacts"]["model"]["digest"]
    assert event["extra"]["metrics"] == {"metrics": {"auc": 0.9}}

    second = standalone.trigger("train-model", word="two")
    assert standalone.wait("train-model", second) == "success"
    standalone.until("a second run of score", lambda: len(triggered()) == 2)


def test_a_backfill_gives_each_run_its_date(standalone: Standalone) -> None:
    standalone.add(
        "daily",
        HEAD.format("daily")
        + """schedule: "@daily"
start_date: 2026-01-01
max_active_runs: 2
steps:
  - {name: say, kind: container, command: [echo, "for {{ run.date }} by {{ ds }}"]}
""",
        wait=False,
    )
    standalone.until("DAG daily", lambda: standalone.knows("daily"))
    command = ["backfill", "create", "--dag-id=daily", "--from-date=2026-02-01", "--to-date=2026-02-03"]
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *command],
        env=standalone.environment(),
        cwd=standalone.home,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    standalone.request("PATCH", "dags/daily", json={"is_paused": False})
    standalone.until("three runs", lambda: len(runs_of(standalone, "daily", "backfill")) == 3)
    runs = runs_of(standalone, "daily", "backfill")
    said = set()
    for run in runs:
        assert standalone.wait("daily", run["dag_run_id"]) == "success"
        said |= {line["event"] for line in standalone.task_log("daily", run["dag_run_id"], "say")}
    assert {f"for 2026-02-0{day} by 2026-02-0{day}" for day in (1, 2, 3)} <= said


def test_missed_intervals_run_only_with_catchup(standalone: Standalone) -> None:
    spec = 'schedule: {cron: "0 0 1 * *"}\nstart_date: %s\ncatchup: %s\nsteps:\n  - {name: x, kind: container, command: ["true"]}\n'
    now = datetime.now(UTC)
    start = (now.replace(day=1) - timedelta(days=62)).replace(day=1).date()
    standalone.add("caught-up", HEAD.format("caught-up") + spec % (start, "true"))
    standalone.add("lets-be", HEAD.format("lets-be") + spec % (start, "false"))
    # The firsts of the months since, and where it is not caught up the latest of them alone, if at all.
    standalone.until("runs of caught-up", lambda: len(runs_of(standalone, "caught-up", "scheduled")) >= 3)
    assert len(runs_of(standalone, "lets-be", "scheduled")) <= 1


def test_a_step_waits_for_a_slot_of_its_pool(standalone: Standalone) -> None:
    standalone.request("POST", "pools", json={"name": "gpu", "slots": 1})
    standalone.add(
        "pooled",
        HEAD.format("pooled").replace("process}", "process, pool: gpu}")
        + """steps:
  - {name: one, kind: container, command: [sh, -c, 'date +%s%N; sleep 2; date +%s%N']}
  - {name: two, kind: container, command: [sh, -c, 'date +%s%N; sleep 2; date +%s%N']}
  - {name: big, kind: container, pool_slots: 2, command: ["true"]}
""",
    )
    run = standalone.trigger("pooled")
    standalone.until(
        "both to end", lambda: [standalone.tasks("pooled", run)[name] for name in ("one", "two")] == ["success"] * 2
    )
    spans = sorted(
        [int(line["event"]) for line in standalone.task_log("pooled", run, name) if line["event"].isdigit()]
        for name in ("one", "two")
    )
    assert spans[0][1] <= spans[1][0]  # never at the same time
    assert standalone.tasks("pooled", run)["big"] in (None, "scheduled")  # the pool has no two slots
    standalone.request("PATCH", "pools/gpu", json={"pool": "gpu", "slots": 2, "include_deferred": False})
    assert standalone.wait("pooled", run) == "success"


def test_callbacks_of_a_run_and_of_a_step_are_called(standalone: Standalone) -> None:
    standalone.add(
        "alarmed",
        HEAD.format("alarmed")
        + """callbacks:
  on_failure: [{path: acme_alerts.page, arguments: {word: run}}]
steps:
  - name: fail
    kind: container
    command: [sh, -c, "exit 3"]
    retries: 1
    backoff: {initial: 1s, factor: 1}
    callbacks:
      on_execute: [{path: acme_alerts.page, arguments: {word: execute}}]
      on_retry: [{path: acme_alerts.page, arguments: {word: retry}}]
      on_failure:
        - {path: acme_alerts.page, arguments: {word: failure}}
        - {path: acme_alerts.Bell, arguments: {text: "{{ ti.task_id }} of {{ run_id }} failed"}}
""",
    )
    run = standalone.trigger("alarmed")
    assert standalone.wait("alarmed", run) == "failed"
    standalone.until(
        "the call about the run", lambda: any(call["word"] == "run" for call in calls(standalone, "page", run))
    )
    made = calls(standalone, "page", run)
    words = [call["word"] for call in made if call["word"] != "run"]
    assert words == ["execute", "retry", "execute", "failure"]
    assert {"text": f"fail of {run} failed", "what": "bell"} in [
        json.loads(line) for line in standalone.calls.read_text().splitlines()
    ]


def test_a_run_that_is_late_is_told_of_and_goes_on(standalone: Standalone) -> None:
    standalone.add(
        "overdue",
        HEAD.format("overdue")
        + """deadline: {interval: 2s, callback: {path: acme_alerts.late, arguments: {word: late}}}
steps: [{name: slow, kind: container, command: [sh, -c, 'until test -e "$FILE"; do sleep 0.2; done'], env: {FILE: %s}}]
"""
        % (standalone.home / "go-on"),
    )
    run = standalone.trigger("overdue")
    assert standalone.until("the call", lambda: calls(standalone, "late", run), 180)[0]["word"] == "late"
    assert standalone.get(f"dags/overdue/dagRuns/{run}")["state"] == "running"
    (standalone.home / "go-on").touch()
    assert standalone.wait("overdue", run) == "success"


def test_a_run_that_takes_too_long_is_ended_with_its_programs(standalone: Standalone) -> None:
    pid = standalone.home / "pid"
    standalone.add(
        "endless",
        HEAD.format("endless")
        + f"timeout: 5s\nsteps: [{{name: slow, kind: container, command: [sh, -c, 'echo $$ > {pid}; exec sleep 600']}}]\n",
    )
    run = standalone.trigger("endless")
    assert standalone.wait("endless", run) == "failed"
    number = standalone.until("the program's id", lambda: int(pid.read_text()) if pid.exists() else None)
    standalone.until("its end", lambda: not os.path.exists(f"/proc/{number}"))
