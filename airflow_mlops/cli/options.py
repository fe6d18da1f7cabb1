# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that several commands share, said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

SPEC_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def spec_argument(command: Command) -> Command:
    """``SPEC``, a spec file."""
    return click.argument("spec", type=SPEC_FILE)(command)


def environment_option(command: Command) -> Command:
    """``-e``, the overlay to apply."""
    return click.option("-e", "--env", "environment", metavar="ENV", help="Environment of the spec to apply.")(command)


def runtime_option(command: Command) -> Command:
    """``--runtime``, in place of what the spec says."""
    return click.option(
        "--runtime", type=click.Choice(["process", "docker"]), help="Where programs run, whatever the spec says."
    )(command)


def params_option(command: Command) -> Command:
    """``-p name=value``, as often as needed."""
    return click.option(
        "-p",
        "--param",
        "params",
        metavar="NAME=VALUE",
        multiple=True,
        help="Value of a parameter; lists and objects as JSON.",
    )(command)
