# SPDX-License-Identifier: Apache-2.0
"""``airflow mlops …``, without Airflow; with it, see ``tests/packaging/test_installed.py``."""

from __future__ import annotations

import argparse
import subprocess
import sys

import click
import pytest

from airflow_mlops.cli.airflow_commands import HELP, Verbatim
from airflow_mlops.cli.main import cli


def test_its_table_has_the_commands_of_airflow_mlops_with_their_own_help() -> None:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    assert {name: command.get_short_help_str(200) for name, command in commands.items() if command} == HELP


@pytest.mark.parametrize(
    "words", ["", "-h", "--help spec.yaml", "spec.yaml -e dev", "-- --odd", "a -- b", "--env=dev -p a=b @file"]
)
def test_the_rest_of_the_line_is_taken_as_it_is(words: str) -> None:
    parser = argparse.ArgumentParser(fromfile_prefix_chars=None)
    command = parser.add_subparsers().add_parser("run")
    Verbatim().add_to_parser(command)
    assert parser.parse_args(["run", *words.split()]).arguments == words.split()


def test_importing_it_loads_nothing_else_of_ours_and_nothing_heavy() -> None:
    program = "import sys, airflow_mlops.cli.airflow_commands; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert {name for name in loaded if name.startswith("airflow")} == {
        "airflow_mlops",
        "airflow_mlops.cli",
        "airflow_mlops.cli.airflow_commands",
    }
    assert not loaded & {"click", "rich", "pydantic", "yaml"}
