# SPDX-License-Identifier: Apache-2.0
"""``artifacts``: what a run committed to the store, listed, shown in full, or copied out of it."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Manifest, Store
    from airflow_mlops.cli.records import Order


@click.group()
def artifacts() -> None:
    """
    List, show and copy what a run made.

    RUN is "last", a pipeline, or the start or end of a run's name.
    """


@artifacts.command("list")
@click.argument("run")
@click.argument("what", metavar="[STEP[.OUTPUT]]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def list_(run: str, what: str | None, as_json: bool) -> None:
    """List the artifacts of a run."""
    from rich.text import Text

    _, order, manifests = _read(run)
    chosen = _chosen(manifests, what, order.run_id)
    if as_json:
        click.echo(json.dumps({name: _described(item) for name, item in chosen.items()}, indent=2, ensure_ascii=False))
        return
    console = looks.make_console()
    table = looks.make_table(
        "artifact", "type", "size", "digest", "uri", right=("size",), whole=("artifact", "type", "size", "digest")
    )
    wide = console.width >= 160  # noqa: PLR2004 - where a URI has a chance to fit
    if not wide:
        table.columns.pop()
    for name, item in chosen.items():
        digest = Text(_short_digest(item.digest), style="dim")
        table.add_row(name, item.type, looks.size(item.size), digest, *([Text(item.uri)] if wide else []))
    console.print(table)
    hint = "" if wide else "; their addresses: airflow-mlops artifacts show RUN STEP.OUTPUT"
    console.print(Text(f"run {order.run_id}{hint}", style="dim"), soft_wrap=True)


@artifacts.command(short_help="Show artifacts in full, as JSON.")
@click.argument("run")
@click.argument("what", metavar="[STEP[.OUTPUT]]", required=False)
def show(run: str, what: str | None) -> None:
    """Show artifacts in full: address, digest, metadata, how they were made. JSON."""
    _, order, manifests = _read(run)
    run = order.run_id
    if (parameter := _parameter(manifests, what)) is not None:
        click.echo(json.dumps(parameter, indent=2, ensure_ascii=False))
        return
    chosen = _chosen(manifests, what, run)
    document: dict[str, Any] = {}
    for name, item in chosen.items():
        manifest = manifests[name.rpartition(".")[0]]
        document[name] = {
            **_described(item),
            "metadata": dict(item.metadata),
            "made_by": {"kind": manifest.kind, "attempt": manifest.attempt, "try": manifest.try_},
        }
    steps = [name for name in manifests if what is None or name == _step_of(what, manifests)]
    if what is None or "." not in what.rpartition("/")[2]:
        values = {
            name: {"parameters": dict(manifests[name].parameters), "metrics": dict(manifests[name].metrics)}
            for name in steps
        }
        document = {"artifacts": document, "steps": values}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@artifacts.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[STEP[.OUTPUT]] [DEST]")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def get(run: str, words: tuple[str, ...], force: bool) -> None:
    """
    Copy artifacts into a folder, by default the current one.

    One artifact goes to DEST itself, unless DEST is a folder; several go to DEST/<step>/<output>. Each is checked
    against its digest.
    """
    if len(words) > 2:  # noqa: PLR2004 - the command line says so
        raise click.UsageError("too many arguments; expected RUN [STEP[.OUTPUT]] [DEST]")
    store, order, manifests = _read(run)
    run = order.run_id
    what, destination = _what_and_where(words, manifests)
    chosen = _chosen(manifests, what, run)
    single = what is not None and "." in what.rpartition("/")[2]
    elsewhere = {name: item for name, item in chosen.items() if not store.contains(item.uri)}
    targets = {name: _target(name, item, destination, single) for name, item in chosen.items() if name not in elsewhere}
    if elsewhere and not targets:
        name, item = next(iter(elsewhere.items()))
        raise CommandError(f"{name} was imported and is not in the store; nothing was copied; it lies at {item.uri}")
    _refuse_present(targets, force)
    for target in targets.values():
        _make_place(target)
    for name, target in targets.items():
        _copy(store, name, chosen[name], target)
    for name, item in elsewhere.items():
        click.echo(f"{name} was imported and is not in the store; it lies at {item.uri}", err=True)


def _read(run: str) -> tuple[Store, Order, dict[str, Manifest]]:
    """A run's store, what was asked for, and what its steps committed."""
    from airflow_mlops.cli.embedded import task_logs
    from airflow_mlops.cli.records import find_run, read_order
    from airflow_mlops.cli.results import all_manifests
    from airflow_mlops.cli.session import open_store

    record = find_run(run)
    order = read_order(record.path)
    store = open_store(order.store)
    # A run that was killed, or goes on, has no list of its steps; only those that logged can have committed.
    steps = [(task.task_id, task.map_index) for task in record.tasks] or [
        (task, index) for task, index, _, _ in task_logs(record.path)
    ]
    return store, order, all_manifests(store, order, dict.fromkeys(steps))


def _chosen(manifests: dict[str, Manifest], what: str | None, run: str) -> dict[str, Artifact]:
    """
    Artifacts by ``step.output``.

    :raises CommandError: if there is no such step or output
    """
    from airflow_mlops.spec.problems import did_you_mean, one_of

    # By the names that the artifacts bear, which were checked: they become names of files.
    everything = {
        f"{step}.{item.name}": item
        for step, manifest in manifests.items()
        for item in map(manifest.artifact, manifest.artifacts)
    }
    if what is None:
        return everything
    step = _step_of(what, manifests)
    if step == what:
        return {name: item for name, item in everything.items() if name.rpartition(".")[0] == step}
    if what in everything:
        return {what: everything[what]}
    names = [*manifests, *everything]
    if _parameter(manifests, what) is not None:
        raise CommandError(
            f"'{what}' of run '{run}' is a parameter, not an artifact; artifacts show {run} {what} prints it"
        )
    if not everything:
        raise CommandError(f"run '{run}' has made no artifacts; expected a run whose steps have succeeded")
    raise CommandError(
        f"run '{run}' has no artifact '{what}'; expected {one_of(everything)}{did_you_mean(what, names)}"
    )


def _parameter(manifests: dict[str, Manifest], what: str | None) -> dict[str, Any] | None:
    """A parameter output by ``step.output``, as it is shown; ``None`` if that is none."""
    step, _, output = (what or "").rpartition(".")
    if step not in manifests or output not in manifests[step].parameters:
        return None
    return {str(what): {"value": manifests[step].parameters[output]}}


def _step_of(what: str, manifests: dict[str, Manifest]) -> str:
    return what if what in manifests else what.rpartition(".")[0]


def _what_and_where(words: tuple[str, ...], manifests: dict[str, Manifest]) -> tuple[str | None, Path]:
    """A lone word may be either: it is an artifact if its step is one of the run's."""
    if len(words) == 2:  # noqa: PLR2004 - both
        return words[0], Path(words[1])
    if not words:
        return None, Path()
    lone = words[0]
    if lone in manifests or lone.rpartition(".")[0] in manifests:
        return lone, Path()
    if "/" in lone or Path(lone).is_dir() or lone in (".", ".."):
        return None, Path(lone)
    return lone, Path()


def _target(name: str, item: Artifact, destination: Path, single: bool) -> Path:
    step, _, output = name.rpartition(".")
    if not single:
        # Below the output's own name: two outputs of a step may name their files alike.
        return destination / step / output / item.file if item.file else destination / step / output
    return destination / (item.file or output) if destination.is_dir() else destination


def _refuse_present(targets: dict[str, Path], force: bool) -> None:
    """Copying half and stopping would be worse than copying nothing."""
    present = [path for path in targets.values() if path.exists() or path.is_symlink()]
    if present and not force:
        raise CommandError(f"{present[0]}: exists already; nothing was copied; give another DEST, or --force")


def _make_place(target: Path) -> None:
    """Make the folder that a copy goes to, so that what is wrong with it is not taken for the store's fault."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(target.parent, os.W_OK | os.X_OK) else f"{target.parent} may not be written to"
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
    if why:
        raise CommandError(f"{target}: cannot be written: {why}; nothing was copied; give another DEST")


def _copy(store: Store, name: str, item: Artifact, target: Path) -> None:
    """Copy beside the place, check, and only then take the place of what is there."""
    from airflow_mlops.artifacts import digest_path
    from airflow_mlops.artifacts.file_store import remove_tree

    beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
    try:
        store.download(store.key(item.uri), beside)
        found = digest_path(beside).digest
        if found != item.digest:
            raise CommandError(
                f"{target}: not written: {item.uri} has digest {found}, but {item.digest} was committed: it was changed since"
            )
        if target.exists() or target.is_symlink():
            remove_tree(target)
        beside.rename(target)
    finally:
        remove_tree(beside)
    click.echo(f"{name} -> {target} ({looks.size(item.size)})")


def _described(item: Artifact) -> dict[str, Any]:
    return {"type": item.type, "uri": item.uri, "digest": item.digest, "size": item.size, "file": item.file}


def _short_digest(digest: str | None) -> str:
    """As much of a digest as tells artifacts of one run apart."""
    scheme, colon, value = (digest or "").partition(":")
    return f"{scheme}{colon}{value[:12]}"
