# SPDX-License-Identifier: Apache-2.0
"""``models``: the registered models of this machine's runs or of a deployment: what there is, what is used, and what is to be used."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_mlops.artifacts import Store
    from airflow_mlops.registry import ModelRegistry, ModelVersion, Move

Command = TypeVar("Command", bound=Callable[..., Any])

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_NEWEST = 20
_MAX_METRICS = 6
_NAME = 40
_WIDE = 110
"""Columns of a terminal from which on a table has room for where a version comes from."""


@click.group()
def models() -> None:
    """
    List registered models and say which version is used.

    MODEL is a name (churn), a version (churn/3), or an alias (churn@challenger). A store has its models: these are the ones
    of your own runs, or, with --deployment, of the Airflow that is configured here.
    """


def _where(command: Command) -> Command:
    """Which registry it is."""
    command = click.option("--deployment", is_flag=True, help="The models of the deployment that is configured here.")(
        command
    )
    return click.option("--store", metavar="URL", help="The models of runs in this store.")(command)


_why = click.option("--why", metavar="TEXT", default="", help="The reason, for the log of the model.")
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")


@models.command("list")
@_where
@_json
def list_(store: str | None, deployment: bool, as_json: bool) -> None:
    """List the models, with their aliases."""
    from airflow_mlops.artifacts import DocumentInvalid
    from airflow_mlops.registry import UnknownModel

    registry, place = _registry(store, deployment)
    found: dict[str, tuple[dict[str, int], list[ModelVersion]]] = {}
    unread: dict[str, str] = {}
    for name in registry.models():
        try:
            found[name] = registry.aliases(name), registry.versions(name)
        except (
            DocumentInvalid,
            UnknownModel,
        ) as error:  # of one that was just deleted, or is damaged, the others are not
            unread[name] = looks.printable(str(error))
    if as_json:
        document: dict[str, Any] = {
            name: {"aliases": aliases, "versions": [version.version for version in versions]}
            for name, (aliases, versions) in found.items()
        }
        click.echo(json.dumps({**document, **{name: {"error": why} for name, why in unread.items()}}, indent=2))
        return
    for name, why in unread.items():
        click.echo(f"{name} cannot be read: {why}", err=True)
    if not found:
        click.echo(f"no models in {place}; a step of kind register makes one")
        return
    console = looks.make_console()
    table = looks.make_table("model", "versions", "newest", "aliases", right=("versions",), whole=("model", "newest"))
    for name, (aliases, versions) in found.items():
        newest = _moment(versions[-1].registered_at) if versions else ""
        pointed = ", ".join(f"{alias} {number}" for alias, number in sorted(aliases.items()))
        table.add_row(name, str(len(versions)), newest, pointed)
    console.print(table)


@models.command()
@click.argument("model")
@_where
@_json
def show(model: str, store: str | None, deployment: bool, as_json: bool) -> None:
    """Show the versions of a model and what was done with them, or one version in full."""
    registry, _ = _registry(store, deployment)
    name, version = _named(registry, model)
    if version is not None:
        _show_version(version, registry.aliases(name), as_json)
        return
    versions, aliases, history = registry.versions(name), registry.aliases(name), registry.history(name)
    if as_json:
        document = {
            "model": name,
            "aliases": aliases,
            "versions": [_version_document(one, aliases) for one in versions],
            "history": [move.model_dump(by_alias=True, exclude={"id", "all_deleted"}) for move in history],
        }
        click.echo(json.dumps(document, indent=2))
        return
    console = looks.make_console()
    _print_versions(console, versions, aliases)
    for alias, number in sorted(aliases.items()):
        if number not in {one.version for one in versions}:
            console.print(
                f"{alias} is version {number}, which was registered elsewhere, and which no step can read",
                highlight=False,
            )
    _print_history(console, history)


@models.command()
@click.argument("model")
@_where
@_why
def promote(model: str, store: str | None, deployment: bool, why: str) -> None:
    """
    Make a version the champion, and the champion the previous one.

    MODEL says which: churn/3, or churn@challenger.
    """
    from airflow_mlops.registry import promote as promote_

    registry, _ = _registry(store, deployment)
    version = _one(registry, model, "promote")
    click.echo(promote_(registry, version.name, version.version, by=_me(), why=why).message)


@models.command()
@click.argument("model")
@_where
@_why
def rollback(model: str, store: str | None, deployment: bool, why: str) -> None:
    """Make the previous version the champion again."""
    from airflow_mlops.registry import rollback as rollback_

    registry, _ = _registry(store, deployment)
    name, version = _named(registry, model)
    if version is not None:
        raise CommandError(f"rollback {model}: names a version; expected the model alone, such as {name}")
    champion = registry.aliases(name).get("champion")
    click.echo(rollback_(registry, name, by=_me(), why=why, only_from=champion).message)


@models.command()
@click.argument("model")
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Take the alias away, wherever it points.")
@_where
@_why
def alias(model: str, alias: str, remove: bool, store: str | None, deployment: bool, why: str) -> None:
    """
    Point an alias to a version, or take it away.

    MODEL says which version: churn/3, or churn@challenger; with --remove, the model alone. To change the champion, promote:
    that keeps the one before as "previous".
    """
    registry, _ = _registry(store, deployment)
    name, version = _named(registry, model)
    if alias == "champion" and not remove:
        raise CommandError(
            f"alias {model} champion: would lose the way back; expected airflow-mlops models promote {model}"
        )
    if remove and version is not None:
        raise CommandError(f"alias {model} --remove: names a version; expected the model alone, such as {name}")
    number = None if remove else _one(registry, model, "alias").version
    moved = registry.move(name, {alias: number}, by=_me(), why=why)
    state = f"is {name}/{number}" if number is not None else f"of {name} is removed"
    click.echo(f"{alias} {state}{'' if moved is not None else ', as before'}")


@models.command()
@click.argument("model")
@click.option("--yes", is_flag=True, help="Delete it; without this, say what would be deleted.")
@_where
@_why
def delete(model: str, store: str | None, deployment: bool, yes: bool, why: str) -> None:
    """
    Delete a version and its files.

    One that an alias points to stays: move the alias first. Who reads a version by its number is not known here.
    """
    registry, _ = _registry(store, deployment)
    version = _one(registry, model, "delete")
    label = f"models:{version.name}/{version.version}"
    pointing = [alias for alias, number in sorted(registry.aliases(version.name).items()) if number == version.version]
    if not yes and not pointing:
        click.echo(f"would delete {label}, {looks.size(version.size)} at {version.uri}; --yes does it")
        return
    registry.delete(version.name, version.version, by=_me(), why=why)
    click.echo(f"deleted {label}")


def _registry(store: str | None, deployment: bool) -> tuple[ModelRegistry, str]:
    """The registry that is meant, and where it is."""
    if deployment and store is not None:
        raise CommandError("--store and --deployment: expected one of them; a deployment has one store")
    if deployment:
        from airflow_mlops.artifacts import known_instance
        from airflow_mlops.operators.settings import load_settings

        settings = load_settings()
        opened = settings.open_store()
        instance = known_instance(opened, settings.instance)
        if instance is None:
            raise CommandError(
                f"nothing has run yet in the deployment whose store is {opened.url}; is AIRFLOW_HOME set?"
            )
        return _opened(opened, instance)
    from airflow_mlops.cli.session import PREFIX, STORE, open_store, own_instance, run_settings

    opened = open_store(run_settings(store)[STORE])
    if os.environ.get(f"{PREFIX}MODEL_REGISTRY", "files") != "files":
        return _opened(opened, own_instance())
    from airflow_mlops.registry import FileRegistry

    return FileRegistry(opened, own_instance()), opened.url


def _opened(store: Store, instance: str) -> tuple[ModelRegistry, str]:
    """The registry that Airflow's configuration names, and where it is."""
    from airflow_mlops.operators.mlflow_connection import open_registry
    from airflow_mlops.operators.settings import load_settings

    # Whoever sits at a terminal waits for a server that is away for less long than a step.
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    registry = open_registry(load_settings(), store, instance)
    return registry, str(getattr(registry, "uri", store.url))


def _named(registry: ModelRegistry, text: str) -> tuple[str, ModelVersion | None]:
    """
    What is meant: a model, or one of its versions.

    :raises CommandError: if there is no such model; the nearest is named
    """
    from airflow_mlops.registry import ModelReference, UnknownModel, check_name
    from airflow_mlops.spec.problems import did_you_mean

    bare = text.removeprefix("models:")
    try:
        if "@" in bare or "/" in bare:
            reference = ModelReference.parse(f"models:{bare}")
            return reference.name, registry.resolve(reference)
        registry.aliases(check_name(bare))
    except UnknownModel as error:
        near = did_you_mean(bare.partition("@")[0].partition("/")[0], registry.models())
        raise CommandError(f"{str(error).partition(';')[0]}{near}") from None
    return bare, None


def _one(registry: ModelRegistry, text: str, command: str) -> ModelVersion:
    name, version = _named(registry, text)
    if version is None:
        raise CommandError(
            f"{command} {text}: does not say which version; expected such as {name}/3 or {name}@challenger"
        )
    return version


def _print_versions(console: Console, versions: list[ModelVersion], aliases: dict[str, int]) -> None:
    from rich.text import Text

    columns = ["version", "aliases", "registered", "metrics", "size"]
    if console.width >= _WIDE:
        columns.append("made by")
    table = looks.make_table(*columns, right=("version", "size"), whole=("version", "registered", "size"))
    for version in versions[-_NEWEST:]:
        pointing = ", ".join(alias for alias, number in sorted(aliases.items()) if number == version.version)
        cells: dict[str, str | Text] = {
            "version": str(version.version),
            "aliases": Text(pointing, style="green" if "champion" in pointing else ""),
            "registered": _moment(version.registered_at),
            "metrics": "\n".join(_metrics(version)),
            "size": looks.size(version.size),
            "made by": _origin(version),
        }
        table.add_row(*(cells[column] for column in columns))
    console.print(table)
    if len(versions) > _NEWEST:
        console.print(Text(f"… and {len(versions) - _NEWEST} older; all of them with --json", style="dim"))


def _print_history(console: Console, history: list[Move]) -> None:
    from rich.text import Text

    if not history:
        return
    console.print()
    for move in history[-_NEWEST:]:
        what = [
            f"{alias} {'removed' if number is None else f'is version {number}'}"
            for alias, number in move.changed.items()
        ]
        what += [f"version {move.deleted} deleted"] if move.deleted is not None else []
        text = f"{_moment(move.at)}  {', '.join(what)}"
        why = f" ({looks.printable(move.why)})" if move.why else ""
        console.print(Text.assemble(text, (f"  by {looks.printable(move.by)}{why}", "dim")), soft_wrap=True)


def _show_version(version: ModelVersion, aliases: dict[str, int], as_json: bool) -> None:
    document = _version_document(version, aliases)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    facts: dict[str, Any] = {
        "model": f"models:{version.name}/{version.version}",
        "aliases": ", ".join(document["aliases"]) or "none",
        "registered": f"{_moment(version.registered_at)} by {version.registered_by}",
        "description": version.description,
        "files": f"{version.uri} ({looks.size(version.size)})",
        "digest": version.digest,
        "made by": _origin(version),
        "git commit": version.git_commit,
        "source": version.source,
        "inputs": ", ".join(f"{name} {digest}" for name, digest in version.inputs.items()),
        "metrics": ", ".join(f"{name} {looks.scalar(value)}" for name, value in version.metrics.items()),
        "signature": json.dumps(version.signature) if version.signature is not None else None,
        "input example": version.input_example,
        "remarks": "; ".join(version.remarks),
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<14} {looks.printable(str(value))}")


def _version_document(version: ModelVersion, aliases: dict[str, int]) -> dict[str, Any]:
    pointing = sorted(alias for alias, number in aliases.items() if number == version.version)
    return {**version.model_dump(by_alias=True), "aliases": pointing}


def _metrics(version: ModelVersion) -> list[str]:
    lines = [f"{looks.shortened(name, _NAME)} {looks.scalar(value)}" for name, value in version.metrics.items()]
    return (
        lines if len(lines) <= _MAX_METRICS else [*lines[: _MAX_METRICS - 1], f"… {len(lines) - _MAX_METRICS + 1} more"]
    )


def _origin(version: ModelVersion) -> str:
    origin = version.origin
    return looks.printable(f"{origin.step.replace('.', '/')} in run {origin.run}") if origin is not None else ""


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "?"


def _me() -> str:
    """Who is at this terminal."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"
    return f"{user} at {socket.gethostname()}"[:200]
