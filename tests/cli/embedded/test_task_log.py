# SPDX-License-Identifier: Apache-2.0
"""Airflow's log lines as people get to see them; the lines are such as Airflow 3.3 writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_mlops.cli.embedded import LogLine, read_log, tail_of_failure

if TYPE_CHECKING:
    from pathlib import Path

PARSED = {"level": "info", "event": "Filling up the DagBag", "logger": "airflow.dag_processing.dagbag.BundleDagBag"}
GROUP = {"level": "info", "event": "::group::Pre Execute", "logger": "task"}
FAILED = {
    "level": "error",
    "event": "Task failed with exception",
    "logger": "task",
    "timestamp": "2026-11-24T21:46:57.230357Z",
    "error_detail": [
        {"exc_type": "AirflowException", "exc_value": "step failed\nsee above", "frames": []},
        {"exc_type": "OSError", "exc_value": "no space left", "frames": []},
    ],
}


def _log(folder: Path, *lines: object) -> Path:
    path = folder / "attempt=1.log"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def _said(text: object) -> dict[str, object]:
    return {"level": "info", "event": text, "logger": "task.stdout", "timestamp": "2026-11-24T21:46:57.230357Z"}


def test_lines_are_read_without_group_markers(tmp_path: Path) -> None:
    lines = list(read_log(_log(tmp_path, GROUP, _said("hello"), {"event": "::endgroup::"})))
    assert lines == [LogLine("info", "hello", "task.stdout", "2026-11-24T21:46:57.230357Z")]


def test_what_is_no_json_object_is_shown_as_it_stands(tmp_path: Path) -> None:
    lines = list(read_log(_log(tmp_path, "plain text\n", "[1]\n", "\n", '{"event": "cut o')))
    assert [line.event for line in lines] == ["plain text", "[1]", '{"event": "cut o']


def test_the_end_of_a_failure_is_the_steps_own_words_and_one_reason(tmp_path: Path) -> None:
    program = _said("from a program") | {"logger": "airflow.task.operators.some.ProcessOperator"}
    path = _log(tmp_path, *(_said(f"line {number}") for number in range(9)), program, PARSED, GROUP, FAILED, GROUP)
    lines, reason = tail_of_failure(path, 2)
    assert [line.event for line in lines] == ["line 8", "from a program"]
    assert reason == "AirflowException: step failed"


def test_a_killed_task_has_a_reason_too(tmp_path: Path) -> None:
    killed = {"level": "critical", "event": "Process terminated by signal.\nLikely OOM", "logger": "task"}
    assert tail_of_failure(_log(tmp_path, _said("working"), killed))[1] == "Process terminated by signal."
