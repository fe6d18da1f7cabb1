# SPDX-License-Identifier: Apache-2.0
"""What a program prints becomes log lines, whatever it prints."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.operators.log_following import next_pause
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


def test_progress_bars_are_shown_at_intervals_and_to_their_end() -> None:
    lines: list[str] = []
    now = 0.0
    log = LineLog(lines.append, clock=lambda: now)
    for percent in range(1, 101):
        now += 0.1
        log.write(f"\r{percent}%".encode())
    log.close()
    assert lines == ["1%", "52%", "100%"]


def test_a_progress_bar_that_ends_with_a_carriage_return_shows_its_last_state() -> None:
    lines: list[str] = []
    log = LineLog(lines.append, clock=lambda: 0.0)
    for step in (b"1/3\r", b"2/3\r", b"3/3\r"):
        log.write(step)
    log.write(b"\ndone\n")
    assert lines[-2:] == ["3/3", "done"]


def test_a_line_that_overwrites_itself_shows_its_last_text() -> None:
    assert lines_of(b"10%\r20%\r100%\n") == ["100%"]


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_a_secret_is_hidden_however_the_stream_is_cut(size: int) -> None:
    secret = "hush-hush-value"
    data = ("x" * (LINE_LIMIT - 5) + secret + "y" * LINE_LIMIT + secret + "\n" + secret).encode()
    lines: list[str] = []
    log = LineLog(lines.append, [secret])
    for start in range(0, len(data), size):
        log.write(data[start : start + size])
    log.close()
    shown = "".join(lines)
    assert not any(secret[: len(secret) // 2] in line or secret[len(secret) // 2 :] in line for line in lines)
    assert shown.count("***") == 3


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("::group::mine", " ::group::mine"),
        ("::endgroup::", " ::endgroup::"),
        ("  \x1b[31m::group::red", "  \x1b[31m ::group::red"),
        ("\x1b[2K::group::erased", " ::group::erased"),
        ("##[group]mine", " ##[group]mine"),
        ("say ::group:: here", "say ::group:: here"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("a\x1b[2J\x1b[1;1Hb\x1b]0;title\x07c\x1b7d", "abcd"),
        ("bell\x07 \x9b31m back\x08space", "bell 31m backspace"),
    ],
)
def test_a_line_can_neither_move_the_cursor_nor_open_a_group(raw: str, shown: str) -> None:
    assert lines_of(raw.encode() + b"\n") == [shown]


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


def test_a_stream_that_ends_and_shows_nothing_is_opened_ever_less_often() -> None:
    pauses = [0.0]
    for news in (False, False, False, True, False, *[False] * 6):
        pauses.append(next_pause(pauses[-1], news=news))
    assert pauses[1:] == [1, 2, 4, 1, 2, 4, 8, 15, 15, 15, 15]
