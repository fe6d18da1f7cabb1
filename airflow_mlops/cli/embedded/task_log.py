# SPDX-License-Identifier: Apache-2.0
"""Airflow's task logs, one JSON object a line, read for people: the step's own output, and why it failed."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 64 * 1024


@dataclass(frozen=True)
class LogLine:
    """
    One line of a task's log.

    :param level: ``debug`` … ``critical``
    :param event: the text
    :param logger: who wrote it: ``task.stdout`` and ``task.stderr`` for what the task printed
    :param timestamp: ISO 8601, as it stands in the log
    :param error: the exception of a failure, in one line, else empty
    """

    level: str
    event: str
    logger: str
    timestamp: str
    error: str = ""


def read_log(path: Path) -> Iterator[LogLine]:
    """
    The lines of a log, without the markers that fold groups of lines in Airflow's UI; an incomplete last line is
    given as it is.

    :raises OSError: if the file cannot be read
    """
    with path.open("rb") as stream:
        while raw := stream.readline(_LONGEST):
            line = _parse(raw)
            if line is not None:
                yield line


def tail_of_failure(path: Path, n: int = 20) -> tuple[list[LogLine], str]:
    """
    What somebody needs to see of a task that failed.

    :param n: how many lines at most
    :return: the last lines of what the task itself wrote, and the reason in one line, empty if the log has none
    """
    own: deque[LogLine] = deque(maxlen=n)
    reason = fallback = ""
    for line in read_log(path):
        if line.error:
            reason = line.error
        elif line.level in ("error", "critical"):
            fallback = line.event.splitlines()[0] if line.event else fallback
        if is_own(line):
            own.append(line)
    return list(own), reason or fallback


def is_own(line: LogLine) -> bool:
    """
    Whether a line of a step's log is the step's own.

    What Airflow says about itself is left out, be it the task runner or the supervisor; ``airflow.task`` is where an
    operator logs, and with it the program that it runs.
    """
    if line.error or line.logger in ("task", "supervisor", "task_runner"):
        return False
    return not line.logger.startswith("airflow.") or line.logger.startswith("airflow.task.")


def _parse(raw: bytes) -> LogLine | None:
    text = raw.decode("utf-8", "replace").rstrip("\n")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return LogLine("info", text, "", "") if text else None
    event = str(fields.get("event", ""))
    if event.startswith(("::group::", "::endgroup::")):
        return None
    return LogLine(
        level=str(fields.get("level", "info")),
        event=event,
        logger=str(fields.get("logger", "")),
        timestamp=str(fields.get("timestamp", "")),
        error=_error(fields.get("error_detail")),
    )


def _error(detail: Any) -> str:
    """The last exception of a chain as ``Type: text``, first line."""
    if not isinstance(detail, list) or not detail or not isinstance(detail[0], Mapping):
        return ""
    kind, value = str(detail[0].get("exc_type", "")), str(detail[0].get("exc_value", "")).strip()
    first = value.splitlines()[0] if value else ""
    return f"{kind}: {first}" if first else kind
