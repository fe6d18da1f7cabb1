# SPDX-License-Identifier: Apache-2.0
"""How the output of a pod's program is cut into lines, as its node hands it over."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("kubernetes")

from airflow_mlops.operators.kubernetes_logs import Lines, NoLogError
from airflow_mlops.operators.log_following import Output, Seen
from airflow_mlops.operators.logs import LineLog

PIECE = 64 * 1024


def stamp(number: int) -> bytes:
    return b"2026-11-26T15:00:00.%09dZ " % number


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """What becomes of a log that comes in chunks of these sizes, again and again."""
    lines, found, number = Lines(), list[bytes](), 0
    while data:
        size = sizes[number % len(sizes)]
        found += lines.take(data[:size])
        data, number = data[size:], number + 1
    return found + lines.end()


LENGTHS = st.lists(st.sampled_from([0, 1, 70, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5]), min_size=1, max_size=4)


@settings(deadline=None)
@given(LENGTHS, st.lists(st.integers(999, 2 * PIECE), min_size=1, max_size=4), st.booleans())
def test_lines_are_cut_at_the_same_places_however_they_come(lengths: list[int], sizes: list[int], ends: bool) -> None:
    texts = [bytes([97 + number]) * length for number, length in enumerate(lengths)]
    data = b"\n".join(stamp(number) + text for number, text in enumerate(texts)) + (b"\n" if ends else b"")
    found = cut(data, sizes)
    assert found == cut(data, [len(data)])
    for number, text in enumerate(texts):
        pieces = [piece.removeprefix(stamp(number)) for piece in found if piece.startswith(stamp(number))]
        assert b"".join(pieces).rstrip(b"\n") == text
        assert max(map(len, pieces)) <= PIECE + len(stamp(0)) + 1
    assert all(piece.startswith(b"2026-") for piece in found)


def test_a_long_first_line_is_a_log_and_what_begins_with_no_time_is_none() -> None:
    lines = Lines()
    found = lines.take(stamp(1) + b"x" * 3 * PIECE) + lines.take(b"x\n" + stamp(2) + b"second\n")
    assert found[-1] == stamp(2) + b"second\n"
    with pytest.raises(NoLogError, match="unable to retrieve"):
        Lines().take(b"unable to retrieve container logs for containerd://0")


def test_a_long_line_that_is_read_again_is_not_shown_again() -> None:
    shown: list[str] = []
    log = LineLog(shown.append)
    output = Output(log, Seen())
    data = stamp(1) + b"before\n" + stamp(2) + b"x" * 300_000 + b"\n" + stamp(3) + b"after\n"
    assert any([output.take(line) for line in cut(data, [10_000])])
    for size in (999, 70_000, len(data)):
        output.rewind()
        assert not any([output.take(line) for line in cut(data, [size])])
    log.close()
    assert sum(map(len, shown)) == len("before") + 300_000 + len("after")


def test_what_is_no_line_of_the_program_is_shown_and_is_no_news() -> None:
    shown: list[str] = []
    output = Output(LineLog(shown.append), Seen())
    assert output.take(b"failed to create fsnotify watcher: too many open files\n") is False
    assert shown == ["failed to create fsnotify watcher: too many open files"]
