# SPDX-License-Identifier: Apache-2.0
"""What a program prints becomes log lines, whatever it prints."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.operators.logs import LINE_LIMIT, LineLog


def lines_of(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    log = LineLog(lines.append)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    return lines


def test_lines_split_over_chunks_come_out_whole() -> None:
    assert lines_of(b"epo", b"ch 1\nepoch ", b"2\n") == ["epoch 1", "epoch 2"]


def test_a_last_line_without_newline_is_shown() -> None:
    assert lines_of(b"a\nb") == ["a", "b"]


def test_a_character_split_over_chunks_is_not_broken() -> None:
    text = "größe"
    encoded = text.encode()
    assert lines_of(encoded[:3], encoded[3:]) == [text]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert lines_of(b"\xff\xfeok\n") == ["\ufffd\ufffdok"]


def test_progress_bars_are_shown_before_their_newline() -> None:
    lines: list[str] = []
    log = LineLog(lines.append)
    log.write(b"10%\r20%\r")
    assert lines == ["20%"]
    log.write(b"100%\n")
    assert lines == ["20%", "100%"]


def test_a_carriage_return_and_newline_in_two_chunks_end_one_line() -> None:
    assert lines_of(b"one\r", b"\ntwo\r\n") == ["one", "two"]


def test_a_long_line_is_shown_in_pieces() -> None:
    assert [len(line) for line in lines_of(b"x" * (LINE_LIMIT * 2 + 5))] == [LINE_LIMIT, LINE_LIMIT, 5]


def test_a_line_without_end_takes_bounded_memory() -> None:
    count = 0

    def emit(_line: str) -> None:
        nonlocal count
        count += 1

    log = LineLog(emit)
    tracemalloc.start()
    for _ in range(800):
        log.write(b"y" * 65536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    log.close()
    assert count == 800 * 65536 // LINE_LIMIT
    assert peak < 4 * 2**20


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=30))
def test_chunking_does_not_change_text_without_carriage_returns(data: bytes, sizes: list[int]) -> None:
    data = data.replace(b"\r", b"")
    chunks, rest = [], data
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    assert lines_of(*chunks, rest) == lines_of(data)
