# SPDX-License-Identifier: Apache-2.0
"""
``clean``: remove what runs of this machine left, in their folders and in their stores, or what crashes left in a deployment.

Only what is asked for with ``--yes`` is removed. A live run is never touched, nor what belongs to another instance.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from airflow_mlops.cli.errors import FAILED, SUCCESS, CommandError
from airflow_mlops.cli.run import read_duration

if TYPE_CHECKING:
    from airflow_mlops.cli.embedded import RunRecord


@click.command(short_help="Remove runs that have ended, or what crashes left.")
@click.option(
    "--older-than",
    metavar="TIME",
    callback=read_duration,
    help="Runs that ended before this time: 12h, 7d. With --deployment: tasks, by default 1h.",
)
@click.option("--run", "run", metavar="RUN", help="One run.")
@click.option("--all", "everything", is_flag=True, help="All runs that have ended.")
@click.option("--deployment", is_flag=True, help="What crashes left in the deployment that is configured here.")
@click.option("--dag", "dags", metavar="DAG_ID", multiple=True, help="With --deployment: of this DAG alone.")
@click.option("--docker-url", metavar="URL", help="With --deployment: the Docker daemon.  [default: as [mlops] says]")
@click.option(
    "--docker-host-conn-id", metavar="CONN_ID", help="With --deployment: the daemon of this Airflow connection."
)
@click.option(
    "--kubernetes/--no-kubernetes",
    default=None,
    help="With --deployment: look for pods, or do not.  [default: if [mlops] has a stager_image or kubernetes_volumes]",
)
@click.option(
    "--namespace", "namespaces", metavar="NAME", multiple=True, help="With --deployment: pods of this namespace."
)
@click.option(
    "--kubernetes-conn-id", metavar="CONN_ID", help="With --deployment: pods of this Airflow connection's cluster."
)
@click.option("--stop-running", is_flag=True, help="With --deployment: end programs whose task has ended.")
@click.option("--yes", is_flag=True, help="Remove it; without this, say what would be removed.")
@click.pass_context
def clean(
    ctx: click.Context,
    older_than: timedelta | None,
    run: str | None,
    everything: bool,
    deployment: bool,
    dags: tuple[str, ...],
    docker_url: str | None,
    docker_host_conn_id: str | None,
    kubernetes: bool | None,
    namespaces: tuple[str, ...],
    kubernetes_conn_id: str | None,
    stop_running: bool,
    yes: bool,
) -> None:
    """
    Remove runs that have ended: their logs, and their artifacts in the store. Or, with --deployment, what crashes left.

    Nothing is removed without --yes.

    --deployment is for a host with the configuration and database of an Airflow: containers, volumes, pods, scratch folders and
    uncommitted attempts of task instances that this Airflow calls finished. Never what is committed, kept by keep_failed,
    or of a task that has not ended or that Airflow does not know.
    """
    if deployment:
        from airflow_mlops.cli.deployment import DEFAULT_AGE, Request, clean_deployment
        from airflow_mlops.cli.kubernetes_cluster import Wish

        if run is not None or everything:
            raise click.UsageError("--run and --all are for local runs; expected neither with --deployment", ctx)
        if docker_url is not None and docker_host_conn_id is not None:
            raise click.UsageError("expected --docker-url or --docker-host-conn-id, not both", ctx)
        if kubernetes is False and (namespaces or kubernetes_conn_id is not None):
            raise click.UsageError("expected --no-kubernetes, or --namespace and --kubernetes-conn-id, not both", ctx)
        age = older_than if older_than is not None else DEFAULT_AGE
        cluster = Wish(kubernetes, kubernetes_conn_id, namespaces)
        request = Request(age, dags, docker_url, stop_running, docker_host_conn_id, cluster)
        ctx.exit(clean_deployment(request, remove=yes))
    _refuse_without_deployment(ctx)
    if sum(choice is not None and choice is not False for choice in (older_than, run, everything)) != 1:
        raise click.UsageError("expected exactly one of --older-than, --run, --all, or --deployment", ctx)
    chosen = _chosen(older_than, run)
    removed = 0
    for record in chosen:
        try:
            for line in _remove(record, dry_run=not yes):
                click.echo(line)
            removed += 1
        except Exception as error:  # noqa: BLE001 - one run that cannot be removed must not keep the others
            click.echo(f"{record.path.name}: not removed: {error}", err=True)
    _clean_after_visits(remove=yes)
    hint = "; remove with --yes" if removed and not yes else ""
    click.echo(f"{removed} run{'s' if removed != 1 else ''} {'removed' if yes else 'would be removed'}{hint}")
    ctx.exit(SUCCESS if removed == len(chosen) else FAILED)


_OF_DEPLOYMENTS = {
    "dags": "--dag",
    "docker_url": "--docker-url",
    "docker_host_conn_id": "--docker-host-conn-id",
    "kubernetes": "--kubernetes/--no-kubernetes",
    "namespaces": "--namespace",
    "kubernetes_conn_id": "--kubernetes-conn-id",
    "stop_running": "--stop-running",
}


def _refuse_without_deployment(ctx: click.Context) -> None:
    """Options that say something of a deployment say nothing of local runs."""
    for name, option in _OF_DEPLOYMENTS.items():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} is for --deployment", ctx)


def _clean_after_visits(*, remove: bool) -> None:
    """Remove what is left of places in which somebody looked around (``shell``) whose process was killed."""
    from airflow_mlops.cli.abandoned import visits
    from airflow_mlops.cli.session import own_instance

    for one in visits(own_instance()):
        try:
            if remove:
                one.remove()
            click.echo(f"{one.what} (airflow-mlops shell): {'removed' if remove else 'would be removed'}")
        except Exception as error:  # noqa: BLE001 - one that cannot be removed must not keep the others
            click.echo(f"{one.what} (airflow-mlops shell): not removed: {error}", err=True)


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


def _remove(record: RunRecord, *, dry_run: bool) -> list[str]:
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
                if attempts_in(order.scratch):
                    raise CommandError("\n".join(lines[2:]))
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
