# SPDX-License-Identifier: Apache-2.0
"""What becomes of a step's pod while the triggerer waits for it: the triggerer dies, the task is marked or cleared, the pod is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.operators.test_lives import Lives, attempts, outcome
from tests.operators.test_pod_lives import live_in_pods, place

if TYPE_CHECKING:
    from tests.parts.namespace import Namespace
    from tests.parts.s3 import S3Server

__all__ = ["place"]

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.slow]

ONCE = (
    *("undisturbed", "of_a_lost_triggerer", "of_a_restarted_triggerer", "that_ended_without_a_triggerer"),
    *("that_ended_and_was_deleted", "of_a_lost_worker", "edited"),
)


@pytest.fixture(scope="module")
def lives(place: Namespace, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Lives:
    scenarios = (*ONCE, "deleted", "marked", "cleared")
    return live_in_pods("deferred_lives.py", scenarios, place, cluster_s3, tmp_path_factory)


@pytest.mark.parametrize("life", ONCE)
def test_a_program_runs_once_and_its_work_is_committed(lives: Lives, life: str) -> None:
    assert outcome(lives[life]) == ("success", 1, ["1"])
    assert (lives[life]["left"], lives[life]["parameters"]) == ([], {"n": 1})
    assert len(attempts(lives[life], "1")) == 1


def test_each_line_of_its_output_is_shown_once(lives: Lives) -> None:
    assert lives["undisturbed"]["shown"] == 1


def test_a_pod_that_is_taken_away_is_an_infrastructure_failure_and_runs_again(lives: Lives) -> None:
    assert outcome(lives["deleted"]) == ("success", 2, ["1"])
    assert (lives["deleted"]["left"], lives["deleted"]["parameters"]) == ([], {"n": 2})


def test_a_step_that_is_marked_as_failed_has_no_pod_half_a_minute_later(lives: Lives) -> None:
    assert outcome(lives["marked"]) == ("failed", 1, [])
    assert lives["marked"]["left"] == []


def test_a_clear_stops_the_pod_before_the_next_one_starts(lives: Lives) -> None:
    assert outcome(lives["cleared"]) == ("success", 2, ["2"])
    assert lives["cleared"]["left"] == []


def test_nothing_of_all_this_is_left(lives: Lives, place: Namespace) -> None:
    assert place.left() == []
