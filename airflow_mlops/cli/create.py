# SPDX-License-Identifier: Apache-2.0
"""``init``: a small pipeline that works, to be changed into the one that is wanted."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from airflow_mlops.cli.errors import CommandError

SCHEMA_FILE = "mlops.schema.json"
"""Written beside the spec, so that an editor checks and completes it without asking a server."""

_NAME_IN_TEMPLATES = "PIPELINE_NAME"
_NO_NAME = re.compile(r"[^a-z0-9_.-]+")


@click.command(short_help="Write a small pipeline that works.")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="Name of the pipeline.  [default: the folder's]")
def init(folder: Path, name: str | None) -> None:
    """Write a small pipeline that works into DIR: a spec, step code, a DAG file."""
    name = _checked_name(folder, name)
    contents = _contents(name)
    present = [str(folder / relative) for relative in contents if (folder / relative).exists()]
    if present:
        raise CommandError(
            f"{', '.join(present)}: exists already; nothing was written; expected a folder without such files"
        )
    for relative, text in contents.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    spec = shlex.quote(str(folder / f"{name}.yaml"))
    click.echo(
        f"\nNext:\n"
        f"  airflow-mlops validate {spec}\n"
        f"  airflow-mlops run {spec}\n"
        f"  airflow-mlops run {spec} -p slope=3 -p noise=0.5\n"
        f"In an Airflow: put the folder into its DAGs folder; {name}.py is the DAG file."
    )


def _checked_name(folder: Path, name: str | None) -> str:
    from airflow_mlops.spec.forms import PIPELINE_NAME

    if name is None:
        name = _NO_NAME.sub("-", folder.resolve().name.lower()).strip("-._")
    if not re.fullmatch(PIPELINE_NAME.strip("^$"), name):
        raise CommandError(
            f"'{name}' is no name of a pipeline; expected {PIPELINE_NAME.strip('^$')}; give one with --name"
        )
    return name


def _contents(name: str) -> dict[str, str]:
    """Text by file, relative to the folder."""
    from airflow_mlops.spec import spec_schema

    templates = files("airflow_mlops.cli") / "templates"

    def read(file: Traversable) -> str:
        return file.read_text(encoding="utf-8").replace(_NAME_IN_TEMPLATES, name)

    return {
        f"{name}.yaml": read(templates / "pipeline.yaml"),
        f"{name}.py": read(templates / "dag.py"),
        SCHEMA_FILE: json.dumps(spec_schema(), indent=2, ensure_ascii=False) + "\n",
        ".airflowignore": read(templates / "airflowignore"),
        **{f"src/{step}.py": read(templates / "src" / f"{step}.py") for step in ("sample", "fit", "check")},
    }
