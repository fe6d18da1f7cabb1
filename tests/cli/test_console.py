# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from airflow_mlops.cli import console, progress
from airflow_mlops.cli.embedded.model import TaskEvent


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123456, "123 kB"), (5_300_000_000, "5.3 GB"), (None, "?")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert console.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (3660, "1 h 01 min"), (None, "")]
)
def test_durations(value: float | None, text: str) -> None:
    assert console.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.987654, "0.9877"), (True, "true"), (None, "null"), (12, "12"), ([1, 2], "[1, 2]"), ("x" * 40, "x" * 23 + "…")],
)
def test_scalars(value: object, text: str) -> None:
    assert console.scalar(value) == text


def test_what_a_program_printed_cannot_command_the_terminal() -> None:
    assert console.printable("a\x1b[2Jb\x07\rc") == "a [2Jb  c"


def test_lines_tell_each_change_once_and_why_a_step_waits() -> None:
    file = io.StringIO()
    lines = progress.Lines(file, lambda event: event.task_id)
    for state, reason in (
        ("scheduled", ""),
        ("queued", ""),
        ("running", ""),
        ("running", ""),
        ("waiting", "no pool"),
        ("success", ""),
    ):
        lines.on_event(TaskEvent("group.fit", -1, state, 1, datetime.now(UTC), reason))
    texts = [line.split(" s  ", 1)[1] for line in file.getvalue().splitlines()]
    assert texts == ["group/fit: running", "group/fit: waits: no pool", "group/fit: success"]


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_live_display_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setenv("TERM", "xterm")
    before = threading.active_count()
    live = progress.Live(console.make_console(FakeTerminal()), ["split", "fit"], lambda event: "no space")
    live.on_event(TaskEvent("split", -1, "running", 1, datetime.now(UTC)))
    live.on_tick()
    assert threading.active_count() == before
    live.close()


def test_a_step_that_is_tried_again_is_shown_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    event = TaskEvent("fit", -1, "up_for_retry", 1, datetime.now(UTC))
    file = io.StringIO()
    progress.Lines(file, lambda event: "no space").on_event(event)
    assert file.getvalue().endswith("fit: retrying: no space\n")
    terminal = FakeTerminal()
    live = progress.Live(console.make_console(terminal), ["split", "fit"], lambda event: "no space")
    live.on_event(event)
    live.close()
    assert "no space" in terminal.getvalue()


def test_a_live_display_counts_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = FakeTerminal()
    live = progress.Live(console.make_console(file), ["split", "fit"], lambda event: "no space")
    live.on_event(TaskEvent("split", -1, "success", 1, datetime.now(UTC)))
    live.on_stop()
    live.close()
    assert "1 of 2 steps done" in file.getvalue()
    assert progress.STOPPING in file.getvalue()


@pytest.mark.parametrize("name", ["NO_COLOR", "CI"])
def test_a_terminal_that_is_asked_to_be_plain_is_not_redrawn(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable in ("NO_COLOR", "CI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert console.is_live(FakeTerminal())
    monkeypatch.setenv(name, "1")
    assert not console.is_live(FakeTerminal())


def test_metrics_fill_lines_and_are_never_broken_within() -> None:
    from airflow_mlops.cli.report import _filled

    items = ["accuracy 0.9844", "auc 0.9997", "log_loss 0.06063"]
    assert _filled(items, 40) == ["accuracy 0.9844, auc 0.9997,", "log_loss 0.06063"]
    assert _filled(items, 80) == ["accuracy 0.9844, auc 0.9997, log_loss 0.06063"]
    assert _filled(items, 0) == items
    assert _filled([], 40) == []
