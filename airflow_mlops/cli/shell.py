# SPDX-License-Identifier: Apache-2.0
"""
``shell``: look around where a step ran. The same image, inputs, environment and step code, as the seal of its last try says.

Nothing that is done there changes what the step made.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Place, Seal, Store
    from airflow_mlops.operators.settings import Settings

_SHOWN = 2000
"""Characters of the step's command line that are shown."""


@click.command(short_help="Look around where a step ran.", context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.argument("step")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.option("--dag", metavar="DAG_ID", help="RUN is a run of this DAG in the deployment that is configured here.")
@click.pass_context
def shell(ctx: click.Context, run: str, step: str, command: Sequence[str], dag: str | None) -> None:
    """
    Open a shell where a step ran: same image, inputs, environment and step code.

    RUN is "last", a pipeline, or the start or end of a run's name; with --dag, Airflow's run id. STEP is named as
    `airflow-mlops logs` names it. With a COMMAND, that is run in place of a shell.

    What was opened is a copy: outputs, checkpoint and everything else that is written there is gone afterwards.
    """
    if dag is not None:
        ctx.exit(_visit(*_of_deployment(dag, run, step), step, command))
    # Airflow reads its configuration when it is imported, and never again: nothing of it need outlive a visitor who is killed.
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-") as home:
        found = _of_local_run(run, step, Path(home))
    ctx.exit(_visit(*found, step, command))


def _of_local_run(run: str, step: str, home: Path) -> tuple[Place, Store, Settings]:
    """
    Where a run of this user keeps what a step made; Airflow is configured as for the run.

    :param home: an empty folder, for the configuration
    """
    from dataclasses import replace

    from airflow_mlops.cli.embedded.environment import prepare
    from airflow_mlops.cli.records import find_run, read_order
    from airflow_mlops.cli.results import place_of
    from airflow_mlops.cli.session import open_store, run_settings

    order = read_order(find_run(run).path)
    task, index = _task(step)
    place = place_of(order, task, index)
    prepare(home, None, run_settings(order.store))
    from airflow_mlops.operators.connections import do_without_database
    from airflow_mlops.operators.settings import load_settings

    do_without_database()
    settings = load_settings()
    # What is opened belongs to no run, so it does not lie in a run's folder; but pods see only what they share.
    work_dir = settings.work_dir if settings.kubernetes_volumes else None
    return place, open_store(order.store), replace(settings, work_dir=work_dir)


def _of_deployment(dag: str, run: str, step: str) -> tuple[Place, Store, Settings]:
    """Where a run of a deployment keeps what a step made."""
    from airflow_mlops.artifacts import Place, iteration_of, known_instance
    from airflow_mlops.operators.settings import load_settings

    settings = load_settings()
    store = settings.open_store()
    instance = known_instance(store, settings.instance)
    if instance is None:
        raise CommandError(f"nothing has run yet in the deployment whose store is {store.url}; is AIRFLOW_HOME set?")
    task, index = _task(step)
    return Place(instance, dag, run, task, iteration_of(index)), store, settings


def _task(step: str) -> tuple[str, int]:
    """Task id and map index of a step as people name it: ``train``, ``tune/train``, ``train[2]``."""
    name, bracket, index = step.removesuffix("]").partition("[")
    if bracket and (not step.endswith("]") or not re.fullmatch("[0-9]{1,9}", index)):
        raise CommandError(f"'{step}' names no step; expected a name such as train, tune/train or train[2]")
    return name.replace("/", "."), int(index) if bracket else -1


def _visit(place: Place, store: Store, settings: Settings, step: str, command: Sequence[str]) -> int:
    from airflow_mlops.operators.reopening import newest_seal, reopen
    from airflow_mlops.operators.visiting import SHELL, VisitorGone, noticing_who_goes, visit

    seal = newest_seal(store, place)
    if seal is None:
        raise _no_such_step(place, store, step)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        with noticing_who_goes():
            opened = reopen(seal, place, store, settings, [*command] or [*SHELL], terminal=terminal)
            if command and opened.missing:
                opened.attempt.close()
                raise CommandError(opened.missing[0])
            if terminal:
                _greet(seal, opened.program)
            for missing in opened.missing:
                _say(f"not there: {missing}")
            return visit(opened, _say)
    except VisitorGone as gone:
        return 128 + gone.number


def _no_such_step(place: Place, store: Store, step: str) -> CommandError:
    from airflow_mlops.artifacts import decode_component
    from airflow_mlops.cli.progress import step_name
    from airflow_mlops.spec.problems import did_you_mean, one_of

    folders = (key.rpartition("/")[2] for key in store.list(place.run_key))
    names = [step_name(name) for folder in folders if (name := decode_component(folder)) and folder[0] != "_"]
    if not names:
        return CommandError(
            f"no run '{place.run}' of DAG '{place.pipeline}' has left anything in {store.uri(place.run_key)}; "
            "expected the id of a run that has begun, as Airflow shows it"
        )
    if step_name(place.step) in names:
        return CommandError(
            f"step '{step}' of run {place.run} was not started, or ran no program; its log says why: airflow-mlops logs, or Airflow's UI"
        )
    return CommandError(f"run {place.run} has no step '{step}'; expected {one_of(names)}{did_you_mean(step, names)}")


def _greet(seal: Seal, program: Sequence[str]) -> None:
    where = "a process of this machine" if seal.step.runtime == "process" else seal.step.image
    _say(f"step {seal.step.name}, try {seal.run.try_} of run {seal.run.id}, in {where}")
    line = shlex.join(program) or "the image's own command"
    _say(f"it ran: {line if len(line) <= _SHOWN else line[:_SHOWN] + ' …'}")
    _say("all that is written here is gone when you leave; leave with exit or Ctrl-D")


def _say(text: str) -> None:
    from airflow_mlops.cli.console import printable

    click.echo(click.style(printable(text), dim=True), err=True)
