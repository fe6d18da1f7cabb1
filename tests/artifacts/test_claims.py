# SPDX-License-Identifier: Apache-2.0
"""Claims: who owns a generation, on a file system and on S3."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_mlops.artifacts import Claim, Place, Store, Try, all_generations, lay_claim, newest_claim
from airflow_mlops.artifacts.errors import DocumentInvalid


def claim_of(name: str, try_number: int, generation: int = 1, incarnation: int = 0) -> Claim:
    by = Try(id=name, map_index=-1, try_number=try_number, max_tries=3, retries=3, clears=0, run_started=1000.5)
    return Claim(by=by, generation=generation, incarnation=incarnation, at=2000.25)


def lay(store: Store, place: Place, claim: Claim) -> Claim:
    return lay_claim(store, replace(place, generation=claim.generation, incarnation=claim.incarnation), claim)


def test_the_claim_of_the_highest_try_is_the_newest(store: Store, place: Place) -> None:
    assert newest_claim(store, place) is None
    for name, number in (("ti-2", 2), ("ti-10", 10), ("late", 9)):
        lay(store, place, claim_of(name, number))
    assert newest_claim(store, place) == claim_of("ti-10", 10)


def test_a_claim_is_kept_by_whoever_was_first(store: Store, place: Place) -> None:
    first = claim_of("one", 1)
    assert lay(store, place, first) == first
    assert lay(store, place, claim_of("other", 1)) == first
    assert lay(store, place, first.model_copy(update={"at": 3000})).by.id == "one"
    assert newest_claim(store, place) == first


def test_a_later_generation_and_a_later_run_of_the_same_id_come_first(store: Store, place: Place) -> None:
    for claim in (claim_of("a", 1), claim_of("b", 2, 2), claim_of("c", 10, 10)):
        lay(store, place, claim)
    assert newest_claim(store, place) == claim_of("c", 10, 10)
    again = claim_of("d", 1, 1, 1)
    lay(store, place, again)
    assert newest_claim(store, place) == again
    found = [(p.generation, p.incarnation) for p in all_generations(store, place)]
    assert found == [(1, 1), (10, 0), (2, 0), (1, 0)]


def test_other_files_and_folders_are_no_claims(file_store: Store, place: Place) -> None:
    for name in ("claim-.json", "claim-x.json", "claim-99.json.tmp", "my-claim-98.json"):
        file_store.put_if_absent(f"{place.generation_key}/{name}", b"{}")
    for name in ("0", "01", "1.0", "1.1.1", "-1", "x", "9999999999"):
        file_store.put_if_absent(f"{place.step_key}/{name}/claim-1.json", b"{}")
    assert newest_claim(file_store, place) is None


def test_a_generation_without_a_claim_is_passed_over(file_store: Store, place: Place) -> None:
    lay(file_store, place, claim_of("a", 1))
    file_store.put_if_absent(f"{replace(place, generation=2).generation_key}/failure-2.json", b"{}")
    assert newest_claim(file_store, place) == claim_of("a", 1)


GOOD = claim_of("x", 3).model_dump()


def _changed(**values: object) -> bytes:
    return json.dumps({**GOOD, **values}).encode()


def _changed_by(**values: object) -> bytes:
    return json.dumps({**GOOD, "by": {**GOOD["by"], **values}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        _changed(generation="1"),
        _changed(generation=True),
        _changed(more=1),
        _changed(by=None),
        _changed(at="soon"),
        _changed(generation=2),
        _changed(incarnation=1),
        _changed_by(id=3),
        _changed_by(try_number=4),
        _changed_by(more=1),
    ],
)
def test_a_claim_that_cannot_be_read_is_refused(file_store: Store, place: Place, data: bytes) -> None:
    file_store.put_if_absent(place.claim_key(3), data)
    with pytest.raises(DocumentInvalid, match="claim"):
        newest_claim(file_store, place)


def test_a_claim_as_it_is_written_can_be_read(file_store: Store, place: Place) -> None:
    file_store.put_if_absent(place.claim_key(3), json.dumps(GOOD).encode())
    assert newest_claim(file_store, place) == claim_of("x", 3)
