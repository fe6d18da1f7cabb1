# SPDX-License-Identifier: Apache-2.0
"""That each line of a log is shown once, however often it is read again, by whom, and whatever the clock does meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.operators.log_following import Seen, second_before


def stamp(number: int) -> bytes:
    return b"2026-01-01T00:%02d:%02d.000000000Z" % divmod(number, 60)


def news(seen: Seen, lines: list[int]) -> list[int]:
    """Places of the lines that are shown when a stream begins anew that gives these times."""
    seen.rewind()
    return [place for place, number in enumerate(lines) if seen.is_new(stamp(number), b"x\n")]


@given(st.lists(st.integers(0, 3000), max_size=40, unique=True), st.lists(st.integers(0, 40), max_size=5))
def test_a_log_that_is_read_again_shows_each_line_once_however_the_clock_is_set(
    times: list[int], lengths: list[int]
) -> None:
    seen, shown = Seen(), list[int]()
    for length in [*sorted(lengths), len(times), len(times)]:
        shown += news(seen, times[:length])
    assert shown == [*range(len(times))]


@given(st.lists(st.integers(0, 3000), max_size=40, unique=True), st.lists(st.integers(0, 40), max_size=5))
def test_of_a_log_that_another_has_begun_to_show_nothing_is_lost(times: list[int], lengths: list[int]) -> None:
    seen, shown = Seen(), set[int]()
    for length in [*sorted(lengths), len(times)]:
        shown |= {*news(seen, times[:length])}
        seen = Seen(seen.shown)
    assert shown == {*range(len(times))}


@given(st.lists(st.integers(0, 30), max_size=40).map(sorted), st.lists(st.integers(0, 40), max_size=5))
def test_with_a_clock_that_is_not_set_back_none_is_shown_twice_by_two(times: list[int], lengths: list[int]) -> None:
    seen, shown = Seen(), list[int]()
    for length in [*sorted(lengths), len(times), len(times)]:
        shown += news(seen, times[:length])
        seen = Seen(seen.shown)
        shown += news(seen, times[:length])
    assert shown == [*range(len(times))]


def test_lines_of_one_time_are_as_many_as_they_were() -> None:
    seen = Seen()
    assert news(seen, [7, 7, 7]) == [0, 1, 2]
    assert news(seen, [7, 7, 7, 7]) == [3]


def test_a_log_whose_shown_lines_were_removed_goes_on_with_what_is_left() -> None:
    seen = Seen()
    assert news(seen, [1, 2, 3]) == [0, 1, 2]
    assert news(seen, [5, 6]) == [0, 1]


def test_a_stream_is_asked_for_from_a_little_before_the_last_line() -> None:
    assert Seen().rewind() is None
    assert Seen().shown is None
    seen = Seen()
    news(seen, [7])
    assert seen.rewind() == second_before(stamp(7)) == 1767225606
