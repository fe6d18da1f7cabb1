# SPDX-License-Identifier: Apache-2.0
"""A step that prints lines until it may end: what tests of outages ask of it, wherever its program runs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.parts.proxy import Proxy

LINES = (
    "echo ran >> ran; n=0; until [ -e go ] || [ $n = 3000 ]; do n=$((n+1)); echo line $n.; sleep 0.1; done; "
    "echo last line; wc -l < ran > $MLOPS_OUTPUT_N"
)
"""Its program, which runs in :attr:`PrintingStep.folder`."""


class PrintingStep:
    """The step; where its program runs is for its subclasses to say."""

    folder: Path
    proxy: Proxy

    def runs(self) -> None:
        """Wait until the program does."""
        until((self.folder / "ran").exists, seconds=180)

    def ran(self) -> int:
        return len((self.folder / "ran").read_text().splitlines())

    def may_end(self) -> None:
        (self.folder / "go").touch()

    def goes_through(self, deed: str, seconds: float, **options: Any) -> None:
        """
        Keep the step from what it asks, in the middle of which its program ends.

        :param deed: ``cut`` or ``fail``, as the proxy's rules have it, or ``stall``: no byte passes
        :param seconds: the outage itself, whose length is what is tested
        :param options: of the proxy's rule
        """
        rule = None
        if deed == "stall":
            self.proxy.flows.clear()
        else:
            rule = self.proxy.rule("", "cut" if deed == "cut" else "fail", **options)
            self.proxy.cut_all()
        over = threading.Event()
        over.wait(seconds / 2)
        self.may_end()
        over.wait(seconds / 2)
        if rule is None:
            self.proxy.flows.set()
        else:
            rule.released.set()

    def is_away_for_too_long(self) -> None:
        """Cut it off until its first try has failed; the program ends after that."""
        rule = self.proxy.rule("", "cut")
        self.proxy.cut_all()
        self.failed()
        rule.released.set()
        self.may_end()

    def failed(self) -> None:
        """Wait until the first try has."""
        raise NotImplementedError


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Await a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise TimeoutError


def shown_lines(log: str) -> list[int]:
    """Numbers of the lines that a step's log shows, in order."""
    return [int(number) for number in re.findall(r"line (\d+)\.", log)]


def ends_shown(log: str) -> int:
    """How often the log shows the last line; the command itself is there, too."""
    return len(re.findall("(?<!echo )last line", log))
