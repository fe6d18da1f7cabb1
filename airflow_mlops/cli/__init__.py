# SPDX-License-Identifier: Apache-2.0
"""
``airflow-mlops``: write, check, run and look at pipelines from a terminal.

Built on click, not on typer: a command that only reads a spec has 0.3 s for everything, and typer brings 20 ms more.
Each command is a module that is imported when it is called; only those that run something or make pods import Airflow.
"""
