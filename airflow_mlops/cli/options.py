# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that several commands share, said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def spec_argument(command: Command) -> Command:
    """``SPEC``, a spec file, or a folder with one."""
    path = click.Path(exists=True, path_type=Path)
    return click.argument("spec", type=path, callback=_the_spec)(command)


def _the_spec(ctx: click.Context, param: click.Parameter, path: Path) -> Path:
    """
    The spec that is meant by a path.

    :raises BadParameter: if it is a folder with none, or with several
    """
    if ctx.resilient_parsing or not path.is_dir():
        return path
    from airflow_mlops.cli.spec_files import specs_in

    found = list(specs_in(path))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(item) for item in found[:5]) + (", …" if found[5:] else "")
    problem = (
        f"has {len(found)} specs ({names}); expected one of them" if found else "has no spec; expected a spec file"
    )
    raise click.BadParameter(f"folder {path} {problem}", ctx, param)


def environment_option(command: Command) -> Command:
    """``-e``, the overlay to apply."""
    return click.option("-e", "--env", "environment", metavar="ENV", help="Environment of the spec to apply.")(command)


def runtime_option(command: Command) -> Command:
    """``--runtime``, in place of what the spec says."""
    return click.option(
        "--runtime",
        type=click.Choice(["process", "docker", "kubernetes"]),
        help="Where programs run, whatever the spec says.",
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
