# SPDX-License-Identifier: Apache-2.0
"""Commands that only read a spec: ``validate``, ``schema``, ``graph``. They import no Airflow, but for the pods of a spec that has some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airflow_mlops.cli.errors import SUCCESS, USAGE, CommandError
from airflow_mlops.cli.options import environment_option, runtime_option, spec_argument
from airflow_mlops.cli.spec_files import specs_in

if TYPE_CHECKING:
    from airflow_mlops.cli.pod_checks import Server
    from airflow_mlops.operators.settings import Settings
    from airflow_mlops.spec import Pipeline, Problem


@click.command(short_help="Check specs: every problem in one go.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@environment_option
@runtime_option
@click.option(
    "--dry-run",
    "pods",
    type=click.Choice(["none", "client", "server"]),
    default="client",
    show_default=True,
    help="Pods: leave them out, make them here, or have the API server look at them as well.",
)
@click.pass_context
def validate(
    ctx: click.Context, paths: Sequence[Path], environment: str | None, runtime: str | None, pods: str
) -> None:
    """
    Check specs, with all their environments: every problem in one go.

    A PATH is a spec or a folder; in a folder, every YAML file with "apiVersion: mlops/..." is a spec. Exit code 2 if
    any is bad, or if an API server was to be asked and does not answer.

    Of steps on Kubernetes, the pods are made as a worker would make them, by the [mlops] settings that are found here,
    which takes seconds. If asked to, the cluster of your kubeconfig (KUBECONFIG) says what it would refuse of them, to
    your account there and in the environment of -e; nothing is created.
    """
    good = True
    with ExitStack() as stack:
        looks = _Pods(stack, pods)
        for path in _specs(paths):
            pipeline, problems = _check(path, environment, runtime, looks)
            if problems:
                from airflow_mlops.spec.problems import render_problems

                good = False
                click.echo(render_problems(problems))
            elif pipeline is not None:
                count = sum(1 for _ in pipeline.steps())
                click.echo(
                    f"PASS {path} ({pipeline.spec.name}, {count} step{'s' if count != 1 else ''}{looks.told(pipeline)})"
                )
        for note in looks.notes:
            click.echo(note, err=True)
    ctx.exit(SUCCESS if good and not looks.unanswered else USAGE)


class _Pods:
    """
    What is wrong with the pods of specs; the libraries that know pods are imported for the first one.

    :param stack: keeps what they need
    :param how: ``none``, ``client`` or ``server``
    """

    def __init__(self, stack: ExitStack, how: str) -> None:
        self.notes: dict[str, None] = {}
        self._stack, self._how = stack, how
        self._settings: Settings | None = None
        self._server: Server | None = None
        self._missing = False

    @property
    def unanswered(self) -> bool:
        """Whether an API server was to be asked, and could not be."""
        return self._how == "server" and (
            self._missing or (self._server is not None and self._server.silent is not None)
        )

    def problems(self, pipeline: Pipeline, *, ask: bool) -> list[Problem]:
        """
        What is wrong with the pods of a spec that was found good.

        :param ask: whether the API server may be asked
        """
        if self._how == "none" or self._missing or not pipeline.programs("kubernetes") or not self._ready():
            return []
        from airflow_mlops.cli.pod_checks import problems_of

        assert self._settings is not None  # noqa: S101 - it is ready
        problems = problems_of(pipeline, self._settings, self._server if ask else None)
        if self._server is not None:
            self.notes.update(self._server.assumed)
        if self._server is not None and self._server.silent is not None:
            self.notes[f"{self._server.silent}; whether the pods would be taken is not known"] = None
        return problems

    def told(self, pipeline: Pipeline) -> str:
        """What there is to say of the pods of a good spec, after the number of its steps."""
        count = len(pipeline.programs("kubernetes")) if self._settings is not None else 0
        if not count:
            return ""
        takes, them = "", "it" if count == 1 else "them"
        if self.unanswered:
            takes = f": no cluster has looked at {them}"
        elif self._server is not None and self._server.names:
            takes = f": {', '.join(sorted(self._server.names))} would take {them}"
        return f", {count} pod{'s' if count != 1 else ''}{takes}"

    def _ready(self) -> bool:
        from airflow_mlops.cli.pods import configured

        if self._settings is not None:
            return True
        try:
            self._settings = self._stack.enter_context(configured())
        except CommandError as error:
            self.notes[f"{error}; without, only the spec is checked"] = None
            self._missing = True
            return False
        if self._how == "server":
            from airflow_mlops.cli.pod_checks import Server

            self._server = self._stack.enter_context(closing(Server()))
        return True


def _check(
    path: Path, environment: str | None, runtime: str | None, pods: _Pods
) -> tuple[Pipeline | None, tuple[Problem, ...]]:
    """A spec as it is without an overlay, and what is wrong with it under any; under the given one, if one is given."""
    from airflow_mlops.spec import SpecError, load_pipeline

    try:
        pipeline = load_pipeline(path, environment=environment, runtime=runtime)
    except SpecError as error:
        return None, error.problems
    problems: set[Problem] = {*pods.problems(pipeline, ask=True)}
    for name in () if environment else pipeline.spec.environments:
        try:
            problems.update(pods.problems(load_pipeline(path, environment=name, runtime=runtime), ask=False))
        except SpecError as error:
            problems.update(error.problems)
    return pipeline, tuple(sorted(problems))


def _specs(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = list(specs_in(path))
        if not found:
            raise CommandError(f"{path}: no spec in this folder; expected a YAML file with 'apiVersion: mlops/v1'")
        yield from found


@click.command(short_help="Print the JSON Schema of a spec.")
@click.argument("document", type=click.Choice(["spec", "metrics"]), default="spec")
def schema(document: str) -> None:
    """Print the JSON Schema of a spec, for editors, or that of what a metrics output holds."""
    import json

    if document == "metrics":
        from airflow_mlops.artifacts.metrics import metrics_schema as made
    else:
        from airflow_mlops.spec import spec_schema as made

    click.echo(json.dumps(made(), indent=2, ensure_ascii=False))


@click.command(short_help="Print the steps and what they hand to each other.")
@spec_argument
@environment_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid"]),
    default="text",
    show_default=True,
    help="Form of the graph.",
)
def graph(spec: Path, environment: str | None, form: str) -> None:
    """Print the steps of a spec and what they hand to each other."""
    from airflow_mlops.spec import load_pipeline, to_mermaid, to_text

    pipeline = load_pipeline(spec, environment=environment)
    click.echo((to_mermaid if form == "mermaid" else to_text)(pipeline).rstrip("\n"))
