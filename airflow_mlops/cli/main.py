# SPDX-License-Identifier: Apache-2.0
"""The command line: which commands there are, and how whatever goes wrong ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from airflow_mlops.cli.errors import FAILED, INTERRUPTED, SUCCESS, USAGE, CommandError

COMMANDS = {
    "init": "create",
    "validate": "check",
    "schema": "check",
    "graph": "check",
    "render": "render",
    "run": "run",
    "step": "step",
    "runs": "history",
    "logs": "history",
    "artifacts": "artifacts",
    "models": "models",
    "shell": "shell",
    "clean": "clean",
}
"""Commands in the order of their use, with the module that each is in."""

DEBUG = "AIRFLOW_MLOPS_DEBUG"
"""Environment variable that makes errors show where in the code they came from."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(f"airflow_mlops.cli.{module}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or name the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from airflow_mlops.spec.problems import did_you_mean

            near = did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"no command '{args[0]}'; expected one of {', '.join(COMMANDS)}{near}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Our version and Airflow's, from what is installed: neither is imported."""
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "(not installed)"

    click.echo(f"airflow-mlops {installed('airflow-provider-mlops')}, Airflow {installed('apache-airflow-core')}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the versions."
)
def cli() -> None:
    """
    Machine learning pipelines on Apache Airflow.

    A pipeline is a YAML file: its steps run as processes or containers and hand artifacts to each other.

    \b
    airflow-mlops init churn              write a small pipeline that works
    airflow-mlops run churn/churn.yaml    run it
    """


def _open_what_was_closed() -> None:
    """Python has no stream where the caller has closed one (``>&-``); what is written there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process lives


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param arguments: the command line; default ``sys.argv``
    :return: the exit code: 0 success, 1 the pipeline failed, 2 bad usage or spec, 130 ended by Ctrl-C
    """
    _open_what_was_closed()
    try:
        outcome: Any = cli.main(
            args=list(arguments) if arguments is not None else None, prog_name="airflow-mlops", standalone_mode=False
        )
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else SUCCESS
    except BrokenPipeError:
        # Whoever read the output has gone, as head does. Python flushes it once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        _complain("stopped")
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(DEBUG) and not isinstance(error, click.ClickException):
            raise
        _complain(_message(error))
        return USAGE


def _message(error: Exception) -> str:
    from airflow_mlops.spec.problems import SpecError

    if isinstance(error, (CommandError, SpecError)):
        return str(error)
    if isinstance(error, click.UsageError) and not isinstance(error, click.exceptions.NoArgsIsHelpError):
        where = error.ctx.command_path if error.ctx else "airflow-mlops"
        return f"{where}: {_sentence(error.format_message())} (see {where} --help)"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if type(error).__module__.startswith("airflow_mlops."):
        return str(error)
    return _unforeseen(error)


def _unforeseen(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO):
        return f"the output cannot be written: {error.strerror}"
    return f"{type(error).__name__}: {error} (set {DEBUG}=1 to see where in the code)"


def _sentence(text: str) -> str:
    """Click's messages are sentences of their own; ours go on after a colon."""
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]


def _complain(message: str) -> None:
    click.echo(message, err=True)
