# SPDX-License-Identifier: Apache-2.0
"""``render``: the command line or the pod that a step would be run by, to be read or pasted; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airflow_mlops.cli.command_lines import docker_line, process_line
from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.options import environment_option, params_option, runtime_option, spec_argument
from airflow_mlops.cli.params import read_params, with_defaults
from airflow_mlops.cli.planning import plan
from airflow_mlops.spec import Pipeline, Step, load_pipeline
from airflow_mlops.spec.models import PROGRAM_KINDS

if TYPE_CHECKING:
    from airflow_mlops.cli.command_lines import Planned


@click.command(short_help="Print the command line or the pod that a step is run by.")
@spec_argument
@click.argument("step")
@params_option
@environment_option
@runtime_option
def render(spec: Path, step: str, params: Sequence[str], environment: str | None, runtime: str | None) -> None:
    """
    Print the command line that a step is run by; of a step on Kubernetes, its pod.

    What only a run knows is shown as a placeholder: <store>, <run> and <scratch> for where files lie, <step.output> for
    the value of an output. No cluster is asked for a pod.
    """
    pipeline = load_pipeline(spec, environment=environment, runtime=runtime)
    chosen = find_step(pipeline, step)
    if chosen.spec.kind not in PROGRAM_KINDS:
        raise CommandError(
            f"step '{step}' is of kind {chosen.spec.kind}, which runs no program; expected a step that runs one"
        )
    values = with_defaults(pipeline, read_params(pipeline, params))
    planned = plan(pipeline, chosen, values)
    if chosen.spec.runtime == "process":
        click.echo(process_line(planned))
        return
    if chosen.spec.runtime == "kubernetes":
        click.echo(pod_of(pipeline, planned, values), nl=False)
        return
    line, unsaid = docker_line(planned)
    if unsaid:
        click.echo(f"not part of the command line: docker {', '.join(unsaid)}", err=True)
    click.echo(line)


def pod_of(pipeline: Pipeline, planned: Planned, values: Mapping[str, Any]) -> str:
    """
    The pod of a step, as YAML. What was assumed for it is said beside it.

    :raises CommandError: if there would be none, or the libraries that know pods are not installed
    """
    from airflow_mlops.cli.pods import configured, sketch

    with configured() as settings:
        from airflow_mlops.factory.pipelines import build_dag
        from airflow_mlops.operators.failures import StepFailure
        from airflow_mlops.operators.kubernetes_request import as_manifest
        from airflow_mlops.operators.policy import check_runtime
        from airflow_mlops.operators.policy_pods import check_pod

        drawn = sketch(pipeline, planned, build_dag(pipeline), settings, values)
        try:
            check_runtime(drawn.operator, settings)
            manifest = as_manifest(drawn.pod())
            check_pod(drawn.operator, drawn.attempt.settings, manifest)
        except StepFailure as error:
            raise CommandError(drawn.stand_ins.shown(str(error))) from error
    for note in drawn.notes:
        click.echo(note, err=True)
    return _yaml(drawn.stand_ins.shown(manifest))


def _yaml(manifest: Any) -> str:
    """A manifest as people write it: texts in one piece, those of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    written: str = yaml.dump(manifest, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    return written


def find_step(pipeline: Pipeline, name: str) -> Step:
    """
    A step by its path.

    :raises CommandError: if there is none; the nearest is named
    """
    from airflow_mlops.spec.problems import did_you_mean

    try:
        return pipeline.step(name)
    except KeyError as error:
        near = did_you_mean(name, ["/".join(step.path) for step in pipeline.steps()])
        raise CommandError(f"{pipeline.file}: {error.args[0]}{near}") from None
