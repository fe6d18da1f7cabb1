# SPDX-License-Identifier: Apache-2.0
"""Containers whose output would flood, stall or fool a reader, followed by a real daemon's own logs."""

from __future__ import annotations

import logging
import re
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from airflow_mlops.operators import log_following
from airflow_mlops.operators.docker_logs import Follower, SeenOnce
from airflow_mlops.operators.logs import LINE_LIMIT, LineLog
from tests.parts.proxy import proxied

MIB = 1 << 20


class Container:
    """A container whose output is followed."""

    def __init__(self, real: str, program: str, cli: Any = None, *, tty: bool = False, **log_options: str) -> None:
        self.daemon = docker.APIClient(real, version="auto")
        config = self.daemon.create_host_config(log_config={"type": "json-file", "config": log_options})
        command = ["sh", "-c", program]
        self.id = self.daemon.create_container("mlops-busybox:1", command, host_config=config, tty=tty)["Id"]
        self.lines: list[str] = []
        self.daemon.start(self.id)
        sink = LineLog(self.lines.append)
        self.follower = Follower(cli or self.daemon, self.id, sink, logging.getLogger("test"), tty=tty)

    def finish(self) -> list[str]:
        """Await the end of the container, then of its output."""
        try:
            self.daemon.wait(self.id)
            self.follower.finish()
            assert not self.follower._thread.is_alive()
            return self.lines
        finally:
            self.daemon.remove_container(self.id, force=True)


@pytest.fixture
def real(docker_daemon: str, busybox_image: str) -> str:
    return docker_daemon


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "container-log"] == []


@pytest.mark.docker
class TestRealContainers:
    def test_both_streams_are_shown_and_the_last_line_needs_no_end(self, real: str) -> None:
        lines = Container(real, "echo out; echo err >&2; printf end").finish()
        assert sorted(lines) == ["end", "err", "out"]

    def test_a_terminal_s_output_is_shown(self, real: str) -> None:
        assert Container(real, "echo one; sleep 0.3; echo two", tty=True).finish() == ["one", "two"]

    def test_bytes_that_are_no_text_are_shown_as_such(self, real: str) -> None:
        lines = Container(real, r"head -c 100000 /dev/urandom; printf '\377\376\n'; echo after").finish()
        assert lines[-1] == "after"

    def test_a_line_of_fifty_megabytes_is_cut_in_bounded_memory(self, real: str) -> None:
        tracemalloc.start()
        container = Container(real, "head -c 52428800 /dev/zero | tr '\\0' x; echo; echo after")
        # The pieces themselves are not kept, or they would be the memory that is measured.
        lengths: list[int] = []
        container.follower._lines._emit = lambda line: lengths.append(len(line))
        lines = container.finish()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(map(len, lines)) + sum(lengths) == 52428800 + len("after")
        assert max(lengths) <= LINE_LIMIT
        assert peak < 20 * MIB

    def test_rotation_while_it_is_followed_neither_hangs_nor_doubles(self, real: str) -> None:
        program = "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); echo line $n of a log that is rotated; done; echo last"
        options = {"max-size": "100k", "max-file": "3"}
        lines = Container(real, program, **options).finish()
        shown = [int(line.split()[1]) for line in lines if line.startswith("line")]
        assert len(shown) == len(set(shown))
        # Lines that the daemon threw away before it read them are gone; what it repeats is not shown twice.
        assert lines.count("last") == 1
        assert len(shown) > 1000

    def test_a_silent_stream_is_opened_again_and_nothing_is_doubled(
        self, real: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_following, "SILENCE", 0.2)  # a minute, outside of tests
        monkeypatch.setattr(log_following, "PAUSE", 0.1)
        container = Container(real, "echo before; sleep 2; echo after")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            container.follower.look_after()
            time.sleep(0.05)
        assert container.finish() == ["before", "after"]

    def test_a_daemon_that_stalls_does_not_hold_up_the_end(
        self, real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(log_following, "DRAIN_SILENCE", 0.5)
        with proxied(f"{tmp_path}/sock", real.removeprefix("unix://")) as proxy:
            cli = docker.APIClient(f"unix://{tmp_path}/sock", version="auto", timeout=1)
            container = Container(real, "echo before; sleep 0.5; echo after", cli)
            while not container.lines:
                time.sleep(0.01)
            proxy.flows.clear()
            container.daemon.wait(container.id)
            container.follower.finish()
            container.daemon.remove_container(container.id)
            assert container.lines == ["before"]
            assert "rest of the program's output is not shown" in caplog.text

    def test_a_long_line_that_is_cut_in_its_middle_is_whole(self, real: str, tmp_path: Path) -> None:
        with proxied(f"{tmp_path}/sock", real.removeprefix("unix://")) as proxy:
            cli = docker.APIClient(f"unix://{tmp_path}/sock", version="auto")
            container = Container(real, "head -c 30000000 /dev/zero | tr '\\0' x; sleep 1; echo; echo after", cli)
            for count in (10, 500, 1500):
                while len(container.lines) < count:
                    time.sleep(0.001)
                proxy.cut_all()
            lines = container.finish()
        assert sum(len(line) for line in lines[:-1]) == 30000000
        assert lines[-1] == "after"


class TestSeenOnce:
    def test_what_was_shown_is_not_shown_again(self) -> None:
        seen = SeenOnce()
        assert seen.rewind() is None
        assert [seen.is_new(b"2026-01-01T00:00:0%d.0Z" % n, b"x") for n in range(3)] == [True] * 3
        assert seen.rewind() is None
        assert [seen.is_new(b"2026-01-01T00:00:0%d.0Z" % n, b"x") for n in range(5)] == [False] * 3 + [True] * 2

    def test_a_line_that_is_repeated_at_once_is_not_shown_again(self) -> None:
        seen = SeenOnce()
        assert [seen.is_new(b"2026-01-01T00:00:00.0Z", b"x\n") for _ in range(2)] == [True, False]

    def test_more_pieces_of_one_line_than_are_kept_are_counted(self) -> None:
        seen = SeenOnce(keep=10)
        pieces = [b"%d" % number for number in range(50)]
        assert all(seen.is_new(b"2026-01-01T00:00:07.0Z", piece) for piece in pieces)
        assert seen.rewind() == 1767225606
        assert [seen.is_new(b"2026-01-01T00:00:07.0Z", piece) for piece in [*pieces, b"new"]] == [False] * 50 + [True]

    def test_lines_that_a_rotated_log_repeats_are_not_shown_again(self) -> None:
        seen = SeenOnce(keep=10)
        stamps = [b"2026-01-01T00:00:%02d.0Z" % second for second in range(50)]
        assert all(seen.is_new(stamp, b"x\n") for stamp in stamps)
        for first in (30, 45, 49):
            assert [seen.is_new(stamp, b"x\n") for stamp in stamps[first:-1]] == [False] * (49 - first)
            assert not seen.is_new(stamps[-1], b"x\n")
        assert seen.is_new(b"2026-01-01T00:00:50.0Z", b"x")

    def test_streams_whose_times_cross_lose_nothing(self) -> None:
        seen = SeenOnce()
        stamps = [b"2026-01-01T00:00:05.0Z", b"2026-01-01T00:00:04.0Z"]
        assert seen.is_new(stamps[0], b"out")
        seen.rewind()
        assert [seen.is_new(stamps[0], b"out"), seen.is_new(stamps[1], b"err")] == [False, True]


@pytest.mark.docker
def test_times_of_the_daemon_have_the_length_that_is_cut_off(docker_daemon: str, busybox_image: str) -> None:
    daemon = docker.APIClient(docker_daemon, version="auto")
    container = daemon.create_container("mlops-busybox:1", ["echo", "x"])["Id"]
    try:
        daemon.start(container)
        daemon.wait(container)
        (frame,) = list(daemon.logs(container, stream=True, timestamps=True))
    finally:
        daemon.remove_container(container)
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", frame[: log_following._STAMP])
