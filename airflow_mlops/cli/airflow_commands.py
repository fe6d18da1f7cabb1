# SPDX-License-Identifier: Apache-2.0
"""
``airflow mlops …``, for those who look for commands there: from Airflow 3.2 on, which takes commands from a provider.

Every command of Airflow imports this module, so it imports nothing of ours and says what our commands are in a table. Each of
them replaces the process by ``airflow-mlops``: a run makes an Airflow of its own, and here is one that is set up already.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from airflow.cli.cli_config import GroupCommand

HELP = {
    "init": "Write a small pipeline that works.",
    "validate": "Check specs: every problem in one go.",
    "schema": "Print the JSON Schema of a spec.",
    "graph": "Print the steps and what they hand to each other.",
    "render": "Print the command line or the pod that a step is run by.",
    "run": "Run a pipeline on this machine and show what it made.",
    "step": "Run one step alone.",
    "runs": "List the runs of this machine, the newest first.",
    "logs": "Print what a step of a run logged.",
    "artifacts": "List, show and copy what a run made.",
    "models": "List registered models and say which version is used.",
    "shell": "Look around where a step ran.",
    "clean": "Remove runs that have ended, or what crashes left.",
}
"""Our commands, with what ``airflow-mlops --help`` says of each."""


def commands() -> list[GroupCommand]:
    """Return what Airflow adds to its own commands: one group with all of ours."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    rest: Any = Verbatim()
    actions = [
        ActionCommand(name=name, help=line, func=partial(_become, name), args=[rest]) for name, line in HELP.items()
    ]
    return [
        GroupCommand(
            name="mlops",
            help="Machine learning pipelines",
            description="The commands of airflow-mlops, which is the same and starts sooner.",
            subcommands=actions,
        )
    ]


class Verbatim:
    """An ``airflow.cli.cli_config.Arg`` for the rest of the line, whatever it is."""

    flags = ("arguments",)

    def add_to_parser(self, parser: argparse.ArgumentParser) -> None:
        """Let a parser take all words as they are. No character begins an option, so that ``--help`` is for our command, too."""
        parser.prefix_chars = ""
        parser.add_argument(*self.flags, nargs=argparse.REMAINDER)


def _become(command: str, line: argparse.Namespace) -> NoReturn:
    """Replace this process. The folder that we are in is no place to import from (``-P``), as it is none for ``airflow-mlops``."""
    sys.stdout.flush()
    sys.stderr.flush()
    words = [sys.executable, "-P", "-m", "airflow_mlops", command, *line.arguments]
    os.execv(sys.executable, words)  # noqa: S606 - no shell is wanted
