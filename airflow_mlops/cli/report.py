# SPDX-License-Identifier: Apache-2.0
"""What is printed when a run is over: a table of its steps, why a step failed, and where the artifacts lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.cli import console as looks

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.cli.results import Outcome, StepOutcome

_MAX_METRICS = 8
_MAX_FAILED = 5
_ENDS = {"success": "succeeded", "timeout": "ran out of time and was stopped", "interrupted": "was stopped"}
_WIDE = 100
"""Columns of a terminal from which on a table has room for more in one line."""

_NAME = 40
_CONDITION = 200
"""Characters of a condition and what it looked at."""

_COLUMN = 40
"""Columns that metrics take then, before they go on in the next line."""


def print_report(console: Console, outcome: Outcome, called: str = "last") -> None:
    """
    Print how a run ended.

    :param called: what other commands are given for it
    """
    from rich.text import Text

    _table(console, outcome)
    failed = [step for step in outcome.steps if step.state == "failed"]
    for step in failed[:_MAX_FAILED]:
        _failure(console, step)
    if failed:
        hint = f"all of it: airflow-mlops logs {called} {failed[0].name}"
        console.print(Text(hint, style="dim"), soft_wrap=True)
    if len(failed) > _MAX_FAILED:
        console.print(Text(f"… and {len(failed) - _MAX_FAILED} more failed: airflow-mlops logs {called} STEP"))
    console.print()
    word = looks.word(outcome.state)
    took = f" after {looks.seconds(outcome.seconds)}" if outcome.seconds is not None else ""
    how = _ENDS.get(outcome.state, word)
    console.print(
        Text.assemble(
            (f"{outcome.pipeline}{f', step {outcome.step},' if outcome.step else ''}", "bold"),
            " ",
            (f"{how}{took}", looks.style(word)),
            (f"   run {outcome.run}", "dim"),
        ),
        soft_wrap=True,
    )
    if any(step.artifacts for step in outcome.steps):
        # Printed as it is: a line that rich breaks can be clicked on no more.
        console.print(Text(f"artifacts   {outcome.folder}"), soft_wrap=True)
        console.print(
            Text(f"to get one  airflow-mlops artifacts get {called} STEP.OUTPUT DEST", style="dim"), soft_wrap=True
        )


def _table(console: Console, outcome: Outcome) -> None:
    from rich.text import Text

    table = looks.make_table(
        "step", "state", "time", "metrics", "artifacts", right=("time",), whole=("step", "state", "time")
    )
    for step in outcome.steps:
        table.add_row(
            looks.shortened(step.name, 24 if console.width < _WIDE else 50),
            Text(step.state, style=looks.style(step.state)),
            looks.seconds(step.seconds),
            Text("\n".join(_found(step, console))),
            Text("\n".join(f"{_relative(item)} {looks.size(item.size)}" for item in step.artifacts.values())),
        )
    console.print(table)


def _found(step: StepOutcome, console: Console) -> list[str]:
    """What a step found out, in lines."""
    from airflow_mlops.spec.verdicts import answer_told

    if step.kind == "gate":
        return _verdict(step, console)
    if step.kind == "approve":
        return [looks.shortened(answer_told(step.parameters), _CONDITION)]
    return _filled(_metrics(step), _COLUMN if console.width >= _WIDE else 0)


def _verdict(step: StepOutcome, console: Console) -> list[str]:
    """The conditions of a gate, with a mark for each whether it holds."""
    from airflow_mlops.spec.verdicts import told

    marks = {True: "✓", False: "✗"} if console.encoding.lower() in ("utf-8", "utf8") else {True: "+", False: "x"}
    conditions = step.parameters.get("conditions")
    found = [one for one in conditions if isinstance(one, dict)] if isinstance(conditions, list) else []
    lines = [f"{marks[one.get('holds') is True]} {looks.shortened(told(one), _CONDITION)}" for one in found]
    return [*lines[:_MAX_METRICS], *([f"… {len(lines) - _MAX_METRICS} more"] if len(lines) > _MAX_METRICS else [])]


def _compared(step: StepOutcome) -> list[str]:
    """Who won, against whom."""
    compared = step.parameters.get("compared")
    found = [one for one in compared if isinstance(one, dict)] if isinstance(compared, list) else []
    shown = {looks.shortened(str(one.get("name")), _NAME): looks.scalar(one.get("value")) for one in found}
    winner = looks.shortened(str(step.parameters.get("winner")), _NAME)
    others = ", ".join(f"{name} {value}" for name, value in shown.items() if name != winner)
    return [f"winner {winner} ({shown.get(winner, '?')}{f' against {others}' if others else ''})"]


def _metrics(step: StepOutcome) -> list[str]:
    """Metrics that are numbers, and what else the step found out."""
    lines = [f"{looks.shortened(name, _NAME)} {looks.scalar(value)}" for name, value in _scalars(step.metrics)]
    if step.kind == "pick":
        lines += _compared(step)
    elif step.kind == "register":
        new = "new" if step.parameters.get("created") is True else "as before"
        lines.append(f"{looks.shortened(str(step.parameters.get('reference')), _CONDITION)} ({new})")
    else:
        lines += [f"{looks.shortened(name, _NAME)} {looks.scalar(value)}" for name, value in step.parameters.items()]
    if len(lines) > _MAX_METRICS:
        lines = [*lines[: _MAX_METRICS - 1], f"… {len(lines) - _MAX_METRICS + 1} more"]
    return lines


def _filled(items: list[str], columns: int) -> list[str]:
    """Items in as few lines as they fit into; none is broken between its name and its value."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 2 + len(item) <= columns:
            lines[-1] += f", {item}"
        else:
            lines = [*lines[:-1], f"{lines[-1]}{',' if columns else ''}", item] if lines else [item]
    return lines


def _scalars(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """Metrics by name; those of an output stand under its name in a manifest."""
    found: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        if isinstance(value, dict):
            found += _scalars(value)
        elif isinstance(value, (int, float)):
            found.append((name, value))
    return found


def _relative(artifact: Artifact) -> str:
    """An artifact as the step wrote it: the file below its outputs; its address, if it was only referred to."""
    inside = artifact.uri.rpartition("/outputs/")[2]
    return looks.shortened(inside if "://" not in inside else artifact.name, 60)


def _failure(console: Console, step: StepOutcome) -> None:
    from rich.text import Text

    console.print()
    console.print(
        Text.assemble((step.name, "bold"), (" failed; the end of its log:" if step.tail else " failed", "bold red"))
    )
    for line in step.tail:
        console.print(Text(f"  {looks.printable(line)}"), soft_wrap=True)
    console.print(Text(f"{step.name}: {looks.printable(step.error or '')}", style="red"), soft_wrap=True)
