# SPDX-License-Identifier: Apache-2.0
"""Gates and picks as Airflow runs them: what opens, what a closed one does, and who is picked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.operators.test_process import path_of

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAG_FILE = "from airflow_mlops import pipeline_dag\ndag = pipeline_dag('pipeline.yaml')\n"

SPEC = """
apiVersion: mlops/v1
name: gates
params: {least: 0.9}
defaults: {runtime: process}
steps:
  - {name: first, kind: evaluate,
     command: [sh, -ec, 'echo "{\\"auc\\": 0.95, \\"acc\\": 1}" > $MLOPS_OUTPUT_METRICS; echo 1 > $MLOPS_OUTPUT_MODEL'],
     outputs: {metrics: metrics, model: {type: model, file: m.bin}}}
  - {name: second, kind: evaluate,
     command: [sh, -ec, 'echo "{\\"auc\\": 0.97, \\"acc\\": 0.9}" > $MLOPS_OUTPUT_METRICS; echo 2 > $MLOPS_OUTPUT_MODEL'],
     outputs: {metrics: metrics, model: {type: model, file: m.bin}}}
  - {name: third, kind: evaluate,
     command: [sh, -ec, 'echo "{\\"auc\\": 0.97, \\"loss\\": 0.1}" > $MLOPS_OUTPUT_METRICS; echo 3 > $MLOPS_OUTPUT_MODEL'],
     needs: [shut], outputs: {metrics: metrics, model: {type: model, file: m.bin}}}
  - {name: best, kind: pick, from: [first, second], by: max(metrics.auc), outputs: {model: {from: model, asset: true}, metrics: metrics}}
  - {name: of-those-left, kind: pick, from: [third, first, second], by: max(metrics.auc), outputs: {metrics: metrics}}
  - {name: least, kind: pick, from: [first, second], by: min(metrics.acc), outputs: {model: model}}
  - {name: tied, kind: pick, from: [second, best], by: max(metrics.auc), outputs: {model: model}}
  - {name: nobody, kind: pick, from: [first, second], by: max(metrics.f1), outputs: {model: model}}
  - {name: none-left, kind: pick, from: [third, third-as-well], by: max(metrics.auc), outputs: {model: model}}
  - {name: third-as-well, kind: evaluate, needs: [shut], command: ["true"], outputs: {metrics: metrics, model: model}}
  - {name: open, kind: gate, inputs: {m: best.metrics, who: best.winner}, require: ["m.auc >= params.least", "m.acc <= 1", "who == 'second'"]}
  - {name: shut, kind: gate, on_fail: skip, inputs: {m: first.metrics}, require: ["m.auc >= 0.9", "m.auc > 0.99", "m.typo > 0.1"]}
  - {name: hard, kind: gate, retries: 3, inputs: {m: first.metrics}, require: ["m.auc > 0.99"]}
  - {name: after-hard, kind: container, needs: [hard], command: ["true"]}
  - {name: there, kind: import, uri: "DATA", type: metrics}
  - {name: from-file, kind: gate, inputs: {m: there.metrics}, require: ["m.auc == 1"]}
  - {name: use, kind: container, needs: [open], inputs: {model: best.model},
     command: [sh, -ec, "cp {{ inputs.model.path }} $MLOPS_OUTPUT_COPY"], outputs: {copy: artifact}}
  - {name: beyond, kind: container, needs: [shut], inputs: {maybe: {from: third.model, optional: true}}, command: ["true"]}
  - {name: without, kind: container, inputs: {maybe: {from: third.model, optional: true}, model: best.model},
     command: [sh, -ec, 'test -z "$MLOPS_INPUT_MAYBE"']}
"""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "numbers.json"
    file.write_text('{"auc": 1.0, "roc": {"type": "curve", "x": [0, 1], "y": [0, 1]}}')
    return file


@pytest.fixture(scope="module")
def result(run_dag_once: RunDag, numbers: Path) -> DagResult:
    settings = {"AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(numbers.parent)}
    return run_dag_once(DAG_FILE, env=settings, beside={"pipeline.yaml": SPEC.replace("DATA", numbers.as_uri())})


def manifest_of(result: DagResult, task: str) -> dict[str, Any]:
    """What a task committed, whether Airflow heard of it or not."""
    some = path_of(result.xcoms["first"]["manifest"])
    found: dict[str, Any] = json.loads((some.parents[3] / task / "-" / "1" / "manifest.json").read_text())
    return found


def test_every_step_ended_as_its_gates_and_picks_say(result: DagResult) -> None:
    wanted = {
        "success": (
            "first",
            "second",
            "best",
            "of-those-left",
            "least",
            "tied",
            "open",
            "there",
            "from-file",
            "use",
            "without",
        ),
        "skipped": ("shut", "third", "third-as-well", "none-left", "beyond"),
        "failed": ("hard", "nobody"),
        "upstream_failed": ("after-hard", "run_outcome"),
    }
    assert result.tasks == {task: state for state, tasks in wanted.items() for task in tasks}, result.log
    assert result.state == "failed"


def test_what_a_gate_found_is_in_its_manifest_whether_it_opened_or_not(result: DagResult) -> None:
    assert manifest_of(result, "open")["parameters"] == {
        "passed": True,
        "conditions": [
            {"condition": "m.auc >= params.least", "holds": True, "values": {"m.auc": 0.97, "params.least": 0.9}},
            {"condition": "m.acc <= 1", "holds": True, "values": {"m.acc": 0.9}},
            {"condition": "who == 'second'", "holds": True, "values": {"who": "second"}},
        ],
    }
    assert manifest_of(result, "shut")["parameters"] == {
        "passed": False,
        "conditions": [
            {"condition": "m.auc >= 0.9", "holds": True, "values": {"m.auc": 0.95}},
            {"condition": "m.auc > 0.99", "holds": False, "values": {"m.auc": 0.95}},
            {"condition": "m.typo > 0.1", "holds": False, "values": {"m.typo": None}, "why": "there is no m.typo"},
        ],
    }


def test_what_a_gate_found_is_in_its_log(result: DagResult) -> None:
    assert "Holds: m.auc >= params.least (m.auc = 0.97, params.least = 0.9)" in result.log
    assert "Does not hold: m.typo > 0.1 (there is no m.typo)" in result.log
    assert "gate-closed: step 'hard' is closed, since this does not hold: m.auc > 0.99 (m.auc = 0.95)" in result.log


def test_a_pick_hands_on_references_and_copies_nothing(result: DagResult) -> None:
    picked, made = (result.xcoms[task] for task in ("best", "second"))
    for name in ("model", "metrics"):
        assert picked["artifacts"][name] == made["artifacts"][name]
    assert picked["metrics"] == {"metrics": {"auc": 0.97, "acc": 0.9}}
    assert picked["parameters"]["winner"] == "second"
    assert path_of(result.xcoms["use"]["artifacts"]["copy"]["uri"]).read_text() == "2\n"
    assert not list(path_of(picked["manifest"]).parent.glob("*/outputs"))


def test_the_smallest_the_first_of_equals_and_the_rest_of_skipped_ones_win(result: DagResult) -> None:
    winners = {task: result.xcoms[task]["parameters"]["winner"] for task in ("least", "tied", "of-those-left")}
    assert winners == {"least": "second", "tied": "second", "of-those-left": "second"}
    assert result.xcoms["of-those-left"]["parameters"]["compared"][0] == {
        "name": "third",
        "value": None,
        "why": "it was skipped",
    }


def test_who_has_no_number_is_not_picked(result: DagResult) -> None:
    said = "no-winner: step 'nobody' has no candidate with a number to compare: first: it has no number f1; second: it has no number f1"
    assert said in result.log


BY_HAND = """
from airflow.sdk import DAG, task
from airflow_mlops.operators import GateOperator, PickOperator, ProcessEvaluateOperator

with DAG("by-hand", schedule=None) as dag:
    @task
    def least(): return 0.9

    checked = {
        name: ProcessEvaluateOperator(
            task_id=name, command=["sh", "-ec", "echo '{\\"auc\\": %s}' > $MLOPS_OUTPUT_METRICS; echo %s > $MLOPS_OUTPUT_LOSS" % values],
            outputs={"metrics": "metrics", "loss": "number"},
        )
        for name, values in {"one": (0.91, 3), "two": (0.89, 2.5)}.items()
    }
    best = PickOperator(
        task_id="best", by="max(metrics.auc)", candidates={name: {"metrics": step.artifact("metrics")} for name, step in checked.items()}
    )
    cheapest = PickOperator(
        task_id="cheapest", by="min(loss)",
        candidates={name: {"loss": step.artifact("loss"), "metrics": step.artifact("metrics")} for name, step in checked.items()},
    )
    for name, picked in {"opens": best, "shuts": cheapest}.items():
        GateOperator(task_id=name, inputs={"m": picked.artifact("metrics")}, parameters={"least": least.override(task_id=f"least-{name}")()},
                     require=["m.auc > params.least"], on_fail="skip")
"""


def test_hand_written_dags_pick_and_have_gates(run_dag: RunDag) -> None:
    result = run_dag(BY_HAND)
    assert {name: result.tasks[name] for name in ("best", "cheapest", "opens", "shuts")} == {
        "best": "success",
        "cheapest": "success",
        "opens": "success",
        "shuts": "skipped",
    }, result.log
    assert result.xcoms["best"]["parameters"]["winner"] == "one"
    assert result.xcoms["cheapest"]["parameters"] | {"compared": []} == {"loss": 2.5, "winner": "two", "compared": []}


def test_what_an_author_gets_wrong_is_named() -> None:
    from airflow_mlops.operators import BadStep, GateOperator, PickOperator

    with pytest.raises(BadStep, match=r"step 'g': a condition is none, column 4: .*it may speak of m, params"):
        GateOperator(task_id="g", inputs={"m": "x"}, require=["m >"])
    with pytest.raises(BadStep, match="on_fail is 'stop'; expected 'fail' or 'skip'"):
        GateOperator(task_id="g", require=["true"], on_fail="stop")  # type: ignore[arg-type]
    with pytest.raises(BadStep, match="expected two or more, by name"):
        PickOperator(task_id="p", by="max(n)", candidates={"a": {}})
    with pytest.raises(BadStep, match="candidate 'b' has no n; it has m"):
        PickOperator(task_id="p", by="max(n)", candidates={"a": {"n": 1}, "b": {"m": 1}})
