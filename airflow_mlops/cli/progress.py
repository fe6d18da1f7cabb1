# SPDX-License-Identifier: Apache-2.0
"""
What is seen while a run goes on: a display that redraws itself on a terminal, a line for each event elsewhere.

No display starts a thread: tasks are forked off this process meanwhile. It is redrawn when the runner calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from airflow_mlops.cli import console as looks

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from airflow_mlops.cli.embedded import TaskEvent

_REDRAW = 0.2
"""Seconds between two drawings that only the clock asks for."""

STOPPING = "stopping the steps that run; Ctrl-C again kills them"


class Progress(Protocol):
    """A display of a run."""

    def on_event(self, event: TaskEvent) -> None:
        """A task changed its state."""

    def on_tick(self) -> None:
        """Time has passed."""

    def on_stop(self) -> None:
        """Somebody pressed Ctrl-C; the steps that run are being stopped."""

    def pause(self) -> None:
        """Somebody is asked something; the terminal is theirs."""

    def resume(self) -> None:
        """Nobody is asked any more."""

    def close(self) -> None:
        """The run is over."""


Explain = Callable[["TaskEvent"], str]
"""Says why a try failed that is followed by another one."""


class Lines:
    """
    A line for each event, for logs and pipes.

    :param explain: says why a step is tried again
    """

    def __init__(self, file: TextIO, explain: Explain) -> None:
        self._file = file
        self._explain = explain
        self._began = time.monotonic()
        self._seen: dict[tuple[str, int], str] = {}
        self._stopping = False

    def on_event(self, event: TaskEvent) -> None:
        """Print what changed, unless it only says that a step waits for its turn."""
        if event.reason:
            self._print(f"{step_name(event.task_id, event.map_index) or 'run'}: waits: {looks.printable(event.reason)}")
            return
        word = _word(event, self._stopping)
        key = event.task_id, event.map_index
        if not event.task_id or word in ("waiting", "starting", "expanded") or self._seen.get(key) == word:
            return
        self._seen[key] = word
        why = f": {self._explain(event)}" if word == "retrying" else ""
        self._print(f"{step_name(*key)}: {word}{why}")

    def _print(self, text: str) -> None:
        self._file.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
        self._file.flush()

    def on_tick(self) -> None:
        """Nothing changed."""

    def on_stop(self) -> None:
        """Print that the run is being stopped, once."""
        if not self._stopping:
            self._stopping = True
            self._print(STOPPING)

    def pause(self) -> None:
        """Nothing moves that would have to stand still."""

    def resume(self) -> None:
        """Nothing stood still."""

    def close(self) -> None:
        """All is printed."""


class Live:
    """
    All steps with their states, redrawn in place. Of a pipeline that is taller than the terminal, what failed or runs
    comes first; the rest is counted.

    :param steps: task ids in the order of the spec
    :param explain: says why a step is tried again
    """

    def __init__(self, console: Console, steps: Sequence[str], explain: Explain) -> None:
        from rich.live import Live as RichLive

        self._console = console
        self._explain = explain
        self._why: dict[tuple[str, int], str] = {}
        self._began = time.monotonic()
        self._states: dict[tuple[str, int], str] = {(step, -1): "waiting" for step in steps}
        self._since: dict[tuple[str, int], float] = {}
        self._took: dict[tuple[str, int], float] = {}
        self._drawn = 0.0
        self._reason = ""
        self._stopping = self._paused = False
        self._live = RichLive(
            self._drawing(),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def on_event(self, event: TaskEvent) -> None:
        """Note the change and draw."""
        self._reason = looks.printable(event.reason)
        key = event.task_id, event.map_index
        if event.state == "expanded":
            self._states.pop(key, None)
        if event.task_id and not event.reason and event.state != "expanded":
            word = _word(event, self._stopping)
            self._note(key, word)
            self._why[key] = self._explain(event) if word == "retrying" else ""
        self._draw()

    def _note(self, key: tuple[str, int], word: str) -> None:
        now = time.monotonic()
        if word in ("starting", "running") and key not in self._since:
            self._since[key] = now
        if word in looks.ENDED or word == "retrying":
            began = self._since.pop(key, None)
            if began is not None or word == "success":
                self._took[key] = now - (began or now)
        self._states[key] = word

    def on_tick(self) -> None:
        """Let the clocks of running steps go on."""
        if time.monotonic() - self._drawn >= _REDRAW:
            self._draw()

    def on_stop(self) -> None:
        """Say so in place of how to stop."""
        self._stopping = True
        self.resume()
        self._draw()

    def pause(self) -> None:
        """Take the display away; what changes meanwhile is noted."""
        self._paused = True
        self._live.stop()

    def resume(self) -> None:
        """Have it back, with what has changed."""
        if self._paused:
            self._paused = False
            self._live.start()
            self._draw()

    def close(self) -> None:
        """Take the display away; the report comes in its place."""
        self._live.stop()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._paused:
            return
        self._live.update(self._drawing(), refresh=True)

    def _drawing(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        room = max(self._console.height - 3, 3)
        shown = list(self._states)
        if len(shown) > room:
            order = {"failed": 0, "asking": 1, "running": 1, "starting": 1, "retrying": 1}
            chosen = sorted(shown, key=lambda key: order.get(self._states[key], 2))[:room]
            shown = [key for key in shown if key in set(chosen)]
        width = min(max((len(step_name(*key)) for key in shown), default=0), 50)
        lines: list[Any] = [self._line(key, width) for key in shown]
        done = sum(1 for word in self._states.values() if word in looks.ENDED)
        clock = looks.seconds(time.monotonic() - self._began)
        if self._reason:
            lines.append(Text(f"waits: {self._reason}", style="yellow"))
        hint = Text(STOPPING, style="yellow") if self._stopping else Text("Ctrl-C stops", style="dim")
        return Group(*lines, Text.assemble((f"{done} of {len(self._states)} steps done, {clock}; ", "dim"), hint))

    def _line(self, key: tuple[str, int], width: int) -> RenderableType:
        from rich.text import Text

        word = self._states[key]
        mark = looks.MARKS.get(word, "·")
        if self._console.encoding.lower() not in ("utf-8", "utf8"):
            mark = looks.PLAIN_MARKS.get(mark, mark)
        took = self._took.get(key)
        if key in self._since:
            took = time.monotonic() - self._since[key]
        name = looks.shortened(step_name(*key), 50).ljust(width)
        clock = looks.seconds(took) if took is not None else ""
        why = f"  {self._why[key]}" if self._why.get(key) else ""
        text = Text.assemble((f"{mark} {name}  {word.ljust(8)}", looks.style(word)), (f"  {clock}{why}", "dim"))
        text.truncate(self._console.width, overflow="ellipsis")
        return text


def _word(event: TaskEvent, stopping: bool) -> str:
    """The word for a task's state. Nothing is tried again once the run is being stopped, whatever Airflow has noted."""
    word = looks.word(event.state)
    return "stopped" if stopping and word == "retrying" else word


def step_name(task_id: str, map_index: int = -1) -> str:
    """A task as its spec calls it: ``group/step``, with the index of a mapped one."""
    name = task_id.replace(".", "/")
    return f"{name}[{map_index}]" if map_index >= 0 else name
