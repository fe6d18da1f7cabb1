# SPDX-License-Identifier: Apache-2.0
"""
``clean``: remove what runs of this machine left, in their folders and in their stores.

A live run is never touched, nor what belongs to another instance.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from airflow_mlops.cli.errors import FAILED, SUCCESS, CommandError
from airflow_mlops.cli.run import read_duration

if TYPE_CHECKING:
    from airflow_mlops.cli.embedded import RunRecord


@click.command(short_help="Remove runs that have ended, and their artifacts.")
@click.option("--older-than", metavar="TIME", callback=read_duration, help="Runs that ended before this time: 12h, 7d.")
@click.option("--run", "run", metavar="RUN", help="One run.")
@click.option("--all", "everything", is_flag=True, help="All runs that have ended.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_context
def clean(ctx: click.Context, older_than: timedelta | None, run: str | None, everything: bool, dry_run: bool) -> None:
    """Remove runs that have ended: their logs, and their artifacts in the store."""
    if sum(choice is not None and choice is not False for choice in (older_than, run, everything)) != 1:
        raise click.UsageError("expected exactly one of --older-than, --run, --all", ctx)
    chosen = _chosen(older_than, run)
    removed = 0
    for record in chosen:
        try:
            for line in _remove(record, dry_run):
                click.echo(line)
            removed += 1
        except Exception as error:  # noqa: BLE001 - one run that cannot be removed must not keep the others
            click.echo(f"{record.path.name}: not removed: {error}", err=True)
    click.echo(f"{removed} run{'s' if removed != 1 else ''} {'would be removed' if dry_run else 'removed'}")
    ctx.exit(SUCCESS if removed == len(chosen) else FAILED)


def _chosen(older_than: timedelta | None, run: str | None) -> list[RunRecord]:
    from airflow_mlops.cli.embedded import list_runs
    from airflow_mlops.cli.records import find_run

    if run is not None:
        record = find_run(run)
        if record.alive:
            raise CommandError(f"run {record.path.name} goes on; expected one that has ended: stop it first")
        return [record]
    ended = [record for record in list_runs() if not record.alive]
    if older_than is None:
        return ended
    border = datetime.now(UTC) - older_than
    # A killed run wrote down no end; it began before it ended.
    return [record for record in ended if (moment := record.ended or record.started) is not None and moment < border]


def _remove(record: RunRecord, dry_run: bool) -> list[str]:
    """The store first: a folder that is left can be cleaned again, artifacts that no folder knows of cannot."""
    from airflow_mlops.cli.embedded import remove_run
    from airflow_mlops.cli.leftovers import attempts_in, sweep
    from airflow_mlops.cli.records import FILE, read_order
    from airflow_mlops.cli.results import place_of
    from airflow_mlops.cli.session import open_store, own_instance

    lines = [f"{record.path.name}: {record.path}"]
    if (record.path / FILE).exists():
        order = read_order(record.path)
        if order.scratch is not None and (left := attempts_in(order.scratch)):
            lines.append(
                f"{record.path.name}: what {len(left)} attempt{'s' if left[1:] else ''} left in {order.scratch}"
            )
            if not dry_run:
                lines += [f"{record.path.name}: {what}" for what in sweep(order.scratch, order.instance)]
        if order.instance == own_instance():
            store, key = open_store(order.store), place_of(order, "-").run_key
            lines.append(f"{record.path.name}: {store.uri(key)}")
            if not dry_run:
                store.delete_tree(key)
        else:
            lines.append(
                f"{record.path.name}: its artifacts belong to instance {order.instance} and stay in {order.store}"
            )
    if not dry_run and not remove_run(record.path):
        raise CommandError("it goes on again")
    return lines
