# SPDX-License-Identifier: Apache-2.0
"""What ``docs/state-model.md`` says about Airflow, asserted on the Airflow that is installed."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import pytest

from airflow_mlops.artifacts.errors import Replaced
from airflow_mlops.artifacts.generations import Claim, Try, first_try, generation_of

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

Facts = dict[str, Any]


def tries(facts: Facts, scenario: str, task: str = "step") -> list[dict[str, Any]]:
    return [t for t in facts["scenarios"][scenario] if t["task_id"] == task]


def sums(facts: Facts, scenario: str) -> list[int]:
    """Airflow's own sum for the number of the first try, at each try."""
    return [t["max_tries"] - t["retries"] + 1 for t in tries(facts, scenario)]


def numbers(facts: Facts, scenario: str) -> list[int]:
    return [t["try_number"] for t in tries(facts, scenario)]


def counts_every_clear(facts: Facts) -> bool:
    """Airflow 3.1 counts the clears of finished runs only."""
    return not facts["airflow"].startswith("3.1.")


def every_try(facts: Facts) -> list[dict[str, Any]]:
    return [t for scenario in facts["scenarios"].values() for t in scenario]


def test_the_task_instance_of_the_context_carries_max_tries(facts: Facts) -> None:
    for t in every_try(facts):
        assert t["max_tries"] == t["max_tries_from_server"]
        assert t["max_tries_in_context"] is None


def test_the_database_agrees_with_what_the_task_sees(facts: Facts) -> None:
    seen = [t for t in every_try(facts) if t["database"]]
    assert len(seen) > 50
    for t in seen:
        assert (t["try_number"], t["max_tries"]) == (t["database"]["try_number"], t["database"]["max_tries"])


def test_every_try_has_an_id_of_its_own_that_grows(facts: Facts) -> None:
    for name, scenario in facts["scenarios"].items():
        if name in ("reschedule", "deferral"):
            continue
        assert len({t["id"] for t in scenario}) == len(scenario), name
        for index in {(t["task_id"], t["map_index"]) for t in scenario}:
            ids = [t["id"] for t in scenario if (t["task_id"], t["map_index"]) == index]
            assert ids == sorted(ids), name
            assert {uuid.UUID(i).version for i in ids} == {7}


@pytest.mark.parametrize("scenario", ["reschedule", "deferral"])
def test_a_reschedule_and_a_deferral_keep_id_and_try_number(facts: Facts, scenario: str) -> None:
    first, again = tries(facts, scenario)[:2]
    assert (first["id"], first["try_number"]) == (again["id"], again["try_number"])


def test_the_sum_is_constant_over_retries_and_new_after_a_clear(facts: Facts) -> None:
    assert numbers(facts, "retries_and_clears") == [1, 2, 3, 4, 5]
    assert sums(facts, "retries_and_clears") == [1, 1, 1, 4, 4]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("clear_after_failure", [1, 1, 3]),
        ("clear_while_retry_pending", [1, 2]),
        ("clear_while_running", [1, 2, 2]),
        ("clear_at_the_end", [1, 2]),
        ("worker_lost", [1, 1]),
        ("deferral", [1, 1, 1]),
    ],
)
def test_the_sum_is_the_number_of_the_first_try_since_the_last_clear(
    facts: Facts, scenario: str, expected: list[int]
) -> None:
    assert sums(facts, scenario) == expected


def test_a_clear_of_a_running_task_calls_on_kill(facts: Facts) -> None:
    assert facts["on_kill"] == ["clear_while_running"]


def test_a_clear_is_lost_to_the_sum_when_the_worker_dies_before_it_hears_of_it(facts: Facts) -> None:
    assert sums(facts, "clear_while_running_worker_lost") == [1, 1]
    clears = [t["clear_number"] for t in tries(facts, "clear_while_running_worker_lost")]
    assert clears == ([0, 1] if counts_every_clear(facts) else [0, 0])


def test_the_count_of_clears_belongs_to_the_run_not_to_the_task(facts: Facts) -> None:
    clears = [t["clear_number"] for t in tries(facts, "sibling_cleared")]
    assert clears == ([0, 1] if counts_every_clear(facts) else [0, 0])
    assert sums(facts, "sibling_cleared") == [1, 1]


def test_retries_come_from_the_file_of_this_try_and_max_tries_from_the_database(facts: Facts) -> None:
    for scenario, edited in (("edit_1_to_3_while_running", 3), ("edit_1_to_0_while_running", 0)):
        first, retry = tries(facts, scenario)[:2]
        assert (first["retries"], first["max_tries"]) == (1, 1)
        assert (retry["retries"], retry["max_tries"]) == (edited, 1)


def test_the_sum_lies_when_retries_were_edited_between_tries(facts: Facts) -> None:
    assert sums(facts, "edit_1_to_3_while_running")[:2] == [1, -1]
    assert sums(facts, "edit_1_to_0_while_running")[:2] == [1, 2]


def test_the_sum_lies_when_a_clear_came_before_the_edit_was_stored(facts: Facts) -> None:
    assert sums(facts, "edit_1_to_3_then_clear_before_it_is_stored") == [1, 0, 0]
    assert sums(facts, "edit_1_to_0_then_clear_before_it_is_stored") == [1, 3]


@pytest.mark.parametrize("suffix", ["", "_on_latest"])
def test_the_sum_holds_when_the_clear_came_after_the_edit_was_stored(facts: Facts, suffix: str) -> None:
    assert sums(facts, f"edit_1_to_3_then_clear{suffix}") == [1, 2, 2]
    assert sums(facts, f"edit_1_to_0_then_clear{suffix}") == [1, 2]


def test_only_the_count_of_clears_tells_an_edited_retry_from_an_edited_clear(facts: Facts) -> None:
    retry, cleared = tries(facts, "edit_1_to_0_while_running")[1], tries(facts, "edit_1_to_0_then_clear")[1]
    same = ("try_number", "max_tries", "retries")
    assert [retry[k] for k in same] == [cleared[k] for k in same]
    assert (retry["clear_number"], cleared["clear_number"]) == (0, 1)


@pytest.mark.parametrize("scenario", ["recreated", "dag_test"])
def test_a_run_made_again_counts_from_one_again(facts: Facts, scenario: str) -> None:
    assert numbers(facts, scenario) == [1, 2, 1, 2]
    assert sums(facts, scenario) == [1, 1, 1, 1]


def test_a_run_made_again_may_have_the_run_id_of_the_deleted_one(facts: Facts) -> None:
    assert len({t["run_id"] for t in tries(facts, "recreated")}) == 1


def test_a_second_dag_test_of_a_date_deletes_the_first_run_and_takes_another_run_id(facts: Facts) -> None:
    first, retry, again, its_retry = tries(facts, "dag_test")
    assert first["run_id"] == retry["run_id"] != again["run_id"] == its_retry["run_id"]
    assert first["database"] is retry["database"] is None
    assert again["database"] and its_retry["database"]


def test_a_run_made_again_has_a_later_start(facts: Facts) -> None:
    first, retry, again, its_retry = (t["run_started"] for t in tries(facts, "recreated"))
    assert first == retry < again == its_retry


def test_items_of_a_grown_list_move_to_other_map_indexes(facts: Facts) -> None:
    """So an index says nothing about the item, and an item's new index can begin at try 1 again."""
    found = {(t["item"], t["map_index"], t["try_number"]) for t in tries(facts, "mapped")}
    assert found == {("a", 0, 1), ("b", 1, 1), ("b", 1, 2), ("new", 0, 2), ("a", 1, 3), ("b", 2, 1)}


def as_try(fact: dict[str, Any]) -> Try:
    return Try(
        id=fact["id"],
        map_index=fact["map_index"],
        try_number=fact["try_number"],
        max_tries=fact["max_tries"],
        retries=fact["retries"],
        clears=fact["clear_number"],
        run_started=datetime.fromisoformat(fact["run_started"]).timestamp(),
    )


def claim_of(by: Try, generation: int, incarnation: int, *, at: float) -> Claim:
    return Claim(by=by, generation=generation, incarnation=incarnation, at=at)


def place(now: Try, last: Claim | None, *, committed: bool = False) -> tuple[int, int]:
    return generation_of(now, last, lambda: committed)


def replay(found: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The rule, try after try, each with the claim of the one before it, laid when its id was made."""
    places: list[tuple[int, int]] = []
    last: Claim | None = None
    for fact in found:
        now = as_try(fact)
        places.append(place(now, last))
        at = max((uuid.UUID(now.id).int >> 80) / 1000, now.run_started)
        last = claim_of(now, *places[-1], at=at)
    return places


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("retries_and_clears", [1, 1, 1, 4, 4]),
        ("clear_after_failure", [1, 1, 3]),
        ("clear_while_retry_pending", [1, 2]),
        ("clear_while_running", [1, 2, 2]),
        ("clear_at_the_end", [1, 2]),
        ("worker_lost", [1, 1]),
        ("sibling_cleared", [1, 1]),
        ("reschedule", [1, 1]),
        ("deferral", [1, 1, 1]),
        ("edit_1_to_3_then_clear", [1, 2, 2]),
        ("edit_1_to_3_then_clear_on_latest", [1, 2, 2]),
        ("edit_1_to_3_then_clear_before_it_is_stored", [1, 2, 2]),
        ("edit_1_to_0_then_clear", [1, 2]),
        ("edit_1_to_0_then_clear_on_latest", [1, 2]),
        ("edit_1_to_0_then_clear_before_it_is_stored", [1, 2]),
        ("edit_1_to_3_while_running", [1, 1, 3]),
        ("edit_1_to_0_while_running", [1, 1, 3]),
    ],
)
def test_the_rule_keeps_a_retry_and_renews_a_clear(facts: Facts, scenario: str, expected: list[int]) -> None:
    assert replay(tries(facts, scenario)) == [(number, 0) for number in expected]


def test_the_rule_keeps_a_run_made_again_apart(facts: Facts) -> None:
    assert replay(tries(facts, "recreated")) == [(1, 0), (1, 0), (1, 1), (1, 1)]


def test_the_rule_keeps_the_places_of_a_moved_item_apart(facts: Facts) -> None:
    moved = [t for t in tries(facts, "mapped") if t["item"] == "b"]
    assert replay(moved) == [(1, 0), (1, 0), (1, 1)]


def test_a_retry_of_a_run_made_again_whose_first_try_left_no_claim_is_kept_apart(facts: Facts) -> None:
    old, _, _, retry = tries(facts, "recreated")
    claim = claim_of(as_try(old), 1, 0, at=as_try(old).run_started + 0.1)
    assert place(as_try(retry), claim) == (1, 1)


def test_a_try_whose_successor_has_claimed_stands_back(facts: Facts) -> None:
    first, retry = tries(facts, "worker_lost")
    with pytest.raises(Replaced):
        place(as_try(first), claim_of(as_try(retry), 1, 0, at=as_try(retry).run_started + 1))


def test_a_clear_lost_with_its_worker_is_noticed_once_the_generation_is_committed(facts: Facts) -> None:
    first, cleared = tries(facts, "clear_while_running_worker_lost")
    claim = claim_of(as_try(first), 1, 0, at=as_try(first).run_started + 0.1)
    assert place(as_try(cleared), claim) == (1, 0)
    assert place(as_try(cleared), claim, committed=True) == ((2, 0) if counts_every_clear(facts) else (1, 0))


def test_the_sum_is_believed_only_where_it_can_be_true() -> None:
    assert first_try(max_tries=5, retries=2, try_number=5, after=3) == 4
    assert first_try(max_tries=1, retries=3, try_number=2) == 2
    assert first_try(max_tries=2, retries=0, try_number=2, after=1) == 2
    assert first_try(max_tries=1, retries=1, try_number=2, after=1) == 2
