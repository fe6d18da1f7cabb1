# SPDX-License-Identifier: Apache-2.0
"""
The pod of a step before there is a run: made by the code that a worker makes it by, with stand-ins for what a run alone knows.

Loaded for steps on Kubernetes alone: the libraries take seconds to import.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.planning import uri_of_input
from airflow_mlops.cli.session import open_settings
from airflow_mlops.cli.stand_ins import StandIns
from airflow_mlops.spec.parts import PARAMETER_TYPES

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

    from airflow_mlops.artifacts import Artifact, Store
    from airflow_mlops.cli.command_lines import Planned
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.identity import TaskIdentity
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.operators.resolve import ResolvedInputs
    from airflow_mlops.operators.settings import Settings
    from airflow_mlops.spec import Pipeline, Step

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Variables that a connection of an S3 store becomes, as far as is known without asking it."""


@contextmanager
def configured() -> Iterator[Settings]:
    """
    The ``[mlops]`` settings by which pods are made: those of the Airflow that is configured here, else those of a run of one's own. What
    Airflow would log or warn of meanwhile is not heard.

    :raises CommandError: if the libraries that know pods are not installed
    """
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-") as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not _has_airflow():
            # Airflow writes a configuration where there is none, and nobody has asked for one.
            os.environ.update(AIRFLOW_HOME=home, **open_settings())
        # What a worker would log of a pod is not what was asked for, and would stand in the middle of it.
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
        _import_libraries()
        from airflow_mlops.operators.settings import load_settings

        yield load_settings()


def _has_airflow() -> bool:
    """Whether an Airflow is configured here."""
    named = os.environ.get("AIRFLOW_HOME") or os.environ.get("AIRFLOW_CONFIG")
    return bool(named) or Path("~/airflow/airflow.cfg").expanduser().exists()


def _import_libraries() -> None:
    try:
        import airflow.providers.cncf.kubernetes.operators.pod  # noqa: F401
    except ModuleNotFoundError as error:
        raise CommandError(
            f"pods cannot be made here: {error.name} is not installed; expected: pip install 'airflow-provider-mlops[kubernetes]'"
        ) from error


@dataclass(frozen=True)
class Sketch:
    """
    A step's pod before there is a run.

    :param operator: the step's operator
    :param attempt: an attempt that was never made
    :param stand_ins: what is shown in place of what a run alone knows
    :param notes: what was assumed, in words
    """

    operator: KubernetesStepOperator
    attempt: Attempt
    stand_ins: StandIns
    notes: tuple[str, ...]
    _credentials: Mapping[str, str]

    def manifest(self) -> dict[str, Any]:
        """
        The manifest with what the step adds.

        :raises BadStep: as for a worker
        """
        from airflow_mlops.operators.kubernetes_request import requested
        from airflow_mlops.operators.stager_job import keys_of_local_inputs

        return requested(self.operator, self.attempt, keys_of_local_inputs(self.attempt), self._credentials)

    def pod(self) -> V1Pod:
        """
        The pod as a worker would ask for it.

        :raises StepFailure: as for a worker
        """
        from airflow_mlops.operators.kubernetes_request import completed

        hook = SimpleNamespace(
            is_in_cluster=self.stand_ins.word("whether the worker is in the cluster"),
            get_namespace=lambda: self.stand_ins.word("namespace"),
        )
        return completed(self.operator, self.attempt, self.manifest(), hook)


def sketch(pipeline: Pipeline, planned: Planned, dag: Any, settings: Settings, values: Mapping[str, Any]) -> Sketch:
    """
    The pod of a step before there is a run. Nobody is asked, and nothing is written.

    :param planned: the step, and what it would be started with
    :param dag: the DAG of the pipeline
    :param values: of parameters, as far as they are known
    """
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes_names import TASK_INSTANCE, task_selector
    from airflow_mlops.operators.program import Invocation

    step, words = planned.step, StandIns()
    operator = dag.get_task(step.task_id)
    assumed, notes = _assumed(settings, words)
    store = assumed.open_store()
    identity = _identity(dag, operator, settings, words)
    words.show(task_selector(identity)[TASK_INSTANCE], "digest of the task instance")
    attempt = Attempt.plan(identity, store, assumed, words.word("attempt"))
    attempt.inputs = _inputs(pipeline, step, attempt, words, values)
    attempt.staged = _staged(attempt)
    attempt.secret_files = {name: "" for name, secret in step.spec.secrets.items() if secret.as_ == "file"}
    if planned.has_source:
        attempt.source_digest = f"sha256:{words.word('digest of the code')}"
    if operator.checkpoint:
        attempt.checkpoint = store.local_path(identity.place.checkpoint_key)
    attempt.sealed = words.word("seal of the attempt").encode()
    attempt.invocation = Invocation(
        image=planned.image,
        command=planned.argv,
        args=planned.args,
        environment=planned.environment,
        secret_environment={name: "" for name, secret in step.spec.secrets.items() if secret.as_ == "env"},
        working_directory=planned.layout.source if planned.has_source else None,
        timeout=None,
    )
    ti = SimpleNamespace(dag_id=identity.dag_id, task_id=identity.task_id, map_index=-1, try_number=1)
    operator.context_of_try = {"ti": ti, "run_id": identity.run_id, "dag": dag}
    return Sketch(operator, attempt, words, notes, _credentials(settings, assumed, operator, attempt))


def _assumed(settings: Settings, words: StandIns) -> tuple[Settings, tuple[str, ...]]:
    """Settings with stand-ins for what is not set here, and what to say of them. Connections are not asked."""
    notes, changes = [], dict[str, Any](store_conn_id=None)
    folder = settings.open_store().local_path("store")
    if folder is not None and not any(folder.is_relative_to(shared) for shared in settings.kubernetes_volumes):
        changes["store_url"] = f"s3://{words.word('store')}"
        notes.append(
            "no store that pods see is set here ([mlops] store, kubernetes_volumes): <store> stands for an object store"
        )
        folder = None
    if folder is None and settings.stager_image is None:
        image = f"{words.word('stager image')}@sha256:{'0' * 64}"
        words.show(image, "stager image")
        changes["stager_image"] = image
        notes.append("[mlops] stager_image is not set here: <stager image> stands for it")
    if settings.store_conn_id is not None and folder is None:
        notes.append(f"connection '{settings.store_conn_id}' is not asked for the store's server and credentials")
    return replace(settings, **changes), tuple(notes)


def _identity(dag: Any, operator: Any, settings: Settings, words: StandIns) -> TaskIdentity:
    from airflow_mlops.artifacts import Try
    from airflow_mlops.operators.identity import TaskIdentity

    first = Try(
        id=words.word("task instance"), map_index=-1, try_number=1, max_tries=0, retries=0, clears=0, run_started=0.0
    )
    instance = settings.instance or words.word("instance")
    return TaskIdentity(instance, dag.dag_id, words.word("run"), operator.task_id, first)


def _inputs(
    pipeline: Pipeline, step: Step, attempt: Attempt, words: StandIns, values: Mapping[str, Any]
) -> ResolvedInputs:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.resolve import ResolvedInputs

    found = ResolvedInputs()
    for name, item in step.inputs.items():
        if item.type in PARAMETER_TYPES:
            continue
        if item.stage == "none":
            found.unstaged.add(name)
        digest = f"sha256:{words.word(f'digest of {item.label}')}"
        if item.model is not None:
            at = attempt.store.uri(words.word(item.label))
            found.artifacts[name] = Artifact("model", "model", at, digest, file=words.word(f"file of {item.label}"))
            continue
        producer = pipeline.step(item.step)
        output = producer.spec.outputs[item.output]
        label = item.label
        uri = uri_of_input(pipeline, step, name, values)
        if uri is None and producer.spec.kind in ("import", "operator"):
            uri = f"s3://{words.word(f'uri of {label}')}"
        elif uri is None:
            place = replace(attempt.identity.place, step=producer.task_id)
            made = place.outputs_key(words.word(f"attempt of {'/'.join(item.step)}"))
            uri = attempt.store.uri(f"{made}/{item.output}{f'/{output.file}' if output.file else ''}")
        # The stager compares what has a digest of its content, and that alone.
        digest = output.digest if output.digest in ("none", "etag") else digest
        found.artifacts[name] = Artifact(item.output, item.type, uri, digest, file=output.file)
    return found


def _staged(attempt: Attempt) -> dict[str, Path]:
    """Where inputs lie on the worker, where pods see its files."""
    inputs, found = attempt.inputs, dict[str, Path]()
    if inputs is None or attempt.store.local_path(attempt.key) is None:
        return found
    for name, artifact in inputs.artifacts.items():
        if name not in inputs.unstaged:
            relative = f"{name}/{artifact.file}" if artifact.file else name
            found[relative] = _lies_at(artifact, attempt.store) or attempt.inputs_folder / relative
    return found


def _lies_at(artifact: Artifact, store: Store) -> Path | None:
    from airflow_mlops.operators.staging import imported_file

    if store.contains(artifact.uri):
        return store.local_path(store.key(artifact.uri))
    return imported_file(artifact.uri)


def _credentials(
    settings: Settings, assumed: Settings, operator: KubernetesStepOperator, attempt: Attempt
) -> dict[str, str]:
    """Variables of the stager that would be in the pod's secret; their values are nobody's to show."""
    from airflow_mlops.operators.kubernetes_files import needs_stager
    from airflow_mlops.operators.kubernetes_volumes import shares_files
    from airflow_mlops.operators.stager_job import credentials_of

    if shares_files(attempt) or not needs_stager(operator, attempt):
        return {}
    names = credentials_of(assumed) or (_KEYS if settings.store_conn_id is not None else ())
    return dict.fromkeys(names, "")
