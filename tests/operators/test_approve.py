# SPDX-License-Identifier: Apache-2.0
"""Approvals in a running Airflow: who is asked how often, and what follows from an answer, or from none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.operators.question import Numbers, Thing, body_of
from tests.parts.airflow_home import run_in_home

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

Lives = dict[str, dict[str, Any]]

running = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    """What ``approvals.py`` saw."""
    home = tmp_path_factory.mktemp("approvals") / "home"
    run_in_home(Path(__file__).with_name("approvals.py"), home)
    found: Lives = json.loads((home / "approvals.json").read_text())
    for name, life in found.items():
        life["log"] = "".join(file.read_text() for file in (home / "logs").glob(f"dag_id={name}/**/*.log"))
    return found


def of_a_run(test: Any) -> Any:
    for mark in running:
        test = mark(test)
    return test


def outcome(life: dict[str, Any]) -> tuple[str, int, Any]:
    """The state of the step, how often somebody was asked, and what is committed."""
    return life["step"], life["ran"], life["parameters"].get("approved")


@of_a_run
def test_who_approved_when_and_with_which_note_is_committed_and_logged(lives: Lives) -> None:
    life = lives["approved"]
    assert outcome(life) == ("success", 1, True)
    assert set(life["parameters"]) == {"asked", "approved", "by", "at", "note"}
    assert (life["parameters"]["by"], life["parameters"]["note"]) == ("ada", "good enough")
    assert "Approved by ada at 20" in life["log"] and " UTC: good enough" in life["log"]


@of_a_run
def test_a_rejection_fails_the_step_whatever_its_retries_are(lives: Lives) -> None:
    assert outcome(lives["rejected"]) == ("failed", 1, False)
    assert lives["rejected"]["state"] == "failed"
    assert "rejected: step 'step' was rejected by ada at 20" in lives["rejected"]["log"]


@of_a_run
def test_a_rejection_may_skip_the_step_in_its_place(lives: Lives) -> None:
    assert outcome(lives["rejected_to_skip"]) == ("skipped", 1, False)
    assert lives["rejected_to_skip"]["state"] == "success"


@of_a_run
def test_the_default_is_the_answer_when_nobody_gives_one_in_time(lives: Lives) -> None:
    life = lives["late_with_a_default"]
    assert outcome(life) == ("success", 1, True)
    assert (life["parameters"]["by"], life["parameters"]["timed_out"]) == (None, True)
    assert "Approved by default, since nobody answered in time" in life["log"]


@of_a_run
def test_without_a_default_nobodys_answer_fails_the_step_and_asks_nobody_again(lives: Lives) -> None:
    assert outcome(lives["late"]) == ("failed", 1, None)
    assert "1/claim-2.json" not in lives["late"]["files"]  # its retries are for something else
    assert "timeout: step 'step': nobody answered in time; clear it to ask again" in lives["late"]["log"]


@of_a_run
def test_a_clear_asks_again_and_keeps_both_answers(lives: Lives) -> None:
    life = lives["cleared"]
    assert outcome(life) == ("failed", 2, False)
    assert {"1/manifest.json", "2/manifest.json"} <= set(life["files"])


@of_a_run
def test_a_clear_of_a_step_that_waits_asks_again(lives: Lives) -> None:
    life = lives["cleared_while_it_waits"]
    assert outcome(life) == ("success", 2, True)
    assert [name for name in life["files"] if name.endswith("/manifest.json")] == ["2/manifest.json"]


@of_a_run
def test_a_worker_lost_after_the_answer_changes_nothing_and_asks_nobody_again(lives: Lives) -> None:
    life = lives["lost_when_it_was_rejected"]
    assert outcome(life) == ("failed", 1, False)
    assert "1/claim-2.json" in life["files"]


@of_a_run
def test_nobody_is_asked_if_the_condition_does_not_hold_for_certain(lives: Lives) -> None:
    life = lives["not_asked"]
    assert outcome(life) == ("success", 0, True)
    assert life["parameters"]["asked"] is False
    assert "Not asked, since this does not hold: params.ask == true (params.ask = false)" in life["log"]
    assert outcome(lives["not_certain_whether_to_ask"]) == ("success", 1, True)


@of_a_run
def test_an_answer_is_to_what_was_shown_whatever_an_alias_means_by_then(lives: Lives) -> None:
    life = lives["answered_when_the_champion_is_another_one"]
    assert outcome(life) == ("success", 1, True)
    assert life["parameters"]["compared"] == {"models:scored@champion": None}
    assert "1/asked-1.json" in life["files"]


BY_HAND = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_mlops.operators import ApproveOperator, ProcessEvaluateOperator

with DAG("by-hand", schedule=None) as dag:
    check = ProcessEvaluateOperator(
        task_id="check", command=["sh", "-ec", "echo '{\\"auc\\": 0.97}' > $MLOPS_OUTPUT_METRICS"], outputs={"metrics": "metrics"}
    )
    ApproveOperator(
        task_id="sign-off", inputs={"m": check.artifact("metrics")}, subject="Use a model with AUC {{ inputs.m.metadata.auc }}?",
        assignees=["ada"], step_timeout=timedelta(days=3), default="reject", on_reject="skip", when="m.auc < 0.95",
    )
"""


@of_a_run
def test_hand_written_dags_have_approvals(run_dag: RunDag) -> None:
    result = run_dag(BY_HAND)
    assert result.tasks == {"check": "success", "sign-off": "success"}, result.log
    assert "Not asked, since this does not hold: m.auc < 0.95 (m.auc = 0.97)" in result.log


def test_what_an_author_gets_wrong_is_named() -> None:
    from datetime import timedelta

    from airflow_mlops.operators import ApproveOperator, BadStep

    with pytest.raises(BadStep, match="step 'a' has a default, which is the answer after its step_timeout"):
        ApproveOperator(task_id="a", default="approve")
    with pytest.raises(BadStep, match="default is 'yes'; expected 'approve' or 'reject'"):
        ApproveOperator(task_id="a", default="yes", step_timeout=timedelta(1))  # type: ignore[arg-type]
    with pytest.raises(BadStep, match="on_reject is 'stop'; expected 'fail' or 'skip'"):
        ApproveOperator(task_id="a", on_reject="stop")  # type: ignore[arg-type]
    with pytest.raises(BadStep, match="'when' is no condition, column 2: .*it may speak of m, params"):
        ApproveOperator(task_id="a", inputs={"m": "x"}, when="k.auc > 1")
    with pytest.raises(BadStep, match="assignees is 7"):
        ApproveOperator(task_id="a", assignees=[7])  # type: ignore[list-item]


class TestBody:
    def test_numbers_stand_side_by_side_with_what_the_first_has_more(self) -> None:
        text = body_of([Numbers("m", {"auc": 0.91, "loss": 0.25}), Numbers("champion", {"auc": 0.9})], {}, [])
        assert text == (
            "| metric | `m` | `champion` |\n| --- | ---: | ---: |\n| `auc` | 0.91 | 0.9 (+0.01) |\n| `loss` | 0.25 |  |"
            "\n\nIn parentheses: what `m` has more."
        )

    def test_parameters_have_a_table_and_artifacts_a_link_to_a_page_of_ours(self) -> None:
        made = Thing("model", "model", "file:///s/m.bin", "sha256:ab", 1500, "mlops/artifacts?dag_id=p", "fit")
        text = body_of([], {"C": 0.1}, [made, Thing("rows", "dataset", "s3://lake/rows", "etag:x")])
        assert text is not None and "| `C` | `0.1` |" in text
        made_by = "- `model`: model, 1.5 kB, made by [`fit`](mlops/artifacts?dag_id=p)\n  - `file:///s/m.bin`\n  - `sha256:ab`"
        assert text.endswith(f"{made_by}\n- `rows`: dataset\n  - `s3://lake/rows`\n  - `etag:x`")

    def test_what_programs_chose_is_shown_as_it_is_and_in_bounds(self) -> None:
        text = body_of([], {"a|b": "x`y\n| [click](http://evil) ![](http://evil)", "long": "z" * 999}, [])
        assert text is not None
        assert "| `a\\|b` | `` x`y \\| [click](http://evil) ![](http://evil) `` |" in text
        assert f"`{'z' * 300}…`" in text
        many = body_of([Numbers("m", {f"k{n}": 1.0 for n in range(60)})], {}, [])
        assert many is not None and many.endswith("… and 10 more")

    def test_nothing_to_show_is_no_body(self) -> None:
        assert body_of([], {}, []) is None
