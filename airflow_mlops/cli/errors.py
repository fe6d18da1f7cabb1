# SPDX-License-Identifier: Apache-2.0
"""What ends a command: a message for people, and an exit code."""

from __future__ import annotations

SUCCESS = 0
FAILED = 1
"""The pipeline ran and failed."""
USAGE = 2
"""The command cannot be carried out: bad usage, a bad spec, something that is not there."""
INTERRUPTED = 130
"""Ended by Ctrl-C, as shells count it."""


class CommandError(Exception):
    """
    A command cannot be carried out.

    :param message: what is wrong and what to do, for the terminal; one line for each problem
    """
