# SPDX-License-Identifier: Apache-2.0
"""What becomes of a step that is retried, cleared, lost or made again, in a running Airflow: ``docs/state-model.md`` as it is lived."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.parts.airflow_home import run_in_home

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

Lives = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return live(tmp_path_factory)


def live(tmp_path_factory: pytest.TempPathFactory, *scenarios: str) -> Lives:
    """What ``lives.py`` saw."""
    home = tmp_path_factory.mktemp("lives") / "home"
    run_in_home(Path(__file__).with_name("lives.py"), home, *scenarios)
    found: Lives = json.loads((home / "lives.json").read_text())
    return found


def generations(life: dict[str, Any]) -> list[str]:
    """The folders of generations that have a manifest."""
    return sorted(str(Path(name).parent) for name in life["files"] if name.endswith("/manifest.json"))


def attempts(life: dict[str, Any], generation: str) -> set[str]:
    """The attempts that left something in a generation."""
    return {m[1] for name in life["files"] if (m := re.match(rf"{re.escape(generation)}/([0-9a-f]{{12}})/", name))}


def outcome(life: dict[str, Any]) -> tuple[str, int, list[str]]:
    return life["state"], life["ran"], generations(life)


def test_a_retry_goes_on_with_its_generation(lives: Lives) -> None:
    assert outcome(lives["retried"]) == ("success", 2, ["1"])
    assert {"1/claim-1.json", "1/claim-2.json", "1/failure-1.json"} <= set(lives["retried"]["files"])


def test_what_a_failed_attempt_wrote_is_gone(lives: Lives) -> None:
    assert len(attempts(lives["retried"], "1")) == 1
    assert attempts(lives["failed_too_often"], "1") == set()


def test_a_program_is_retried_as_often_as_its_budget_says_and_no_more(lives: Lives) -> None:
    assert outcome(lives["failed_too_often"]) == ("failed", 2, [])


def test_a_clear_runs_a_succeeded_step_again_and_keeps_both_results(lives: Lives) -> None:
    assert outcome(lives["cleared"]) == ("success", 2, ["1", "2"])


def test_a_clear_gives_a_failed_step_new_budgets(lives: Lives) -> None:
    assert outcome(lives["cleared_after_failure"]) == ("success", 4, ["3"])


def test_an_edit_of_retries_while_a_step_runs_does_not_change_its_generation(lives: Lives) -> None:
    assert outcome(lives["edited_before_the_retry"]) == ("success", 2, ["1"])


def test_a_run_made_again_does_not_meet_what_the_deleted_one_left(lives: Lives) -> None:
    assert outcome(lives["made_again"]) == ("success", 3, ["1", "1.1", "2"])


def test_a_worker_that_dies_after_the_commit_does_not_make_the_step_run_again(lives: Lives) -> None:
    assert outcome(lives["lost_after_the_commit"]) == ("success", 1, ["1"])
    assert "1/claim-2.json" in lives["lost_after_the_commit"]["files"]


def test_a_retry_kills_the_program_of_a_lost_worker(lives: Lives) -> None:
    assert outcome(lives["process_of_a_lost_worker"]) == ("success", 2, ["1"])
    assert len(attempts(lives["process_of_a_lost_worker"], "1")) == 1


def test_a_closed_gate_stays_closed_when_its_worker_dies_before_it_could_say_so(lives: Lives) -> None:
    assert outcome(lives["gate_of_a_lost_worker"]) == ("failed", 2, ["1"])
    assert lives["gate_of_a_lost_worker"]["parameters"]["passed"] is False


def test_a_wrapped_operator_is_deferred_resumed_and_retried_with_its_own_arguments(lives: Lives) -> None:
    assert outcome(lives["deferred"]) == ("success", 2, ["1"])
    assert lives["deferred"]["parameters"] == {"n": 8}


def test_a_wrapped_operator_that_fails_is_retried_as_often_as_the_step_says(lives: Lives) -> None:
    assert outcome(lives["wrapped_and_failing"]) == ("failed", 2, [])
