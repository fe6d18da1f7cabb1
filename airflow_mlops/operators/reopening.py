# SPDX-License-Identifier: Apache-2.0
"""
Open the place again that a step's program ran in: image, inputs, environment and step code, as the seal of its attempt says.

What is opened is a place of its own: its outputs and its checkpoint are thrown away, and its container is no attempt of the task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops.artifacts import (
    Artifact,
    ArtifactError,
    Seal,
    Try,
    all_generations,
    find_committed,
    new_attempt_id,
    stored_source,
    unpack_source,
)
from airflow_mlops.artifacts.layout import STEP
from airflow_mlops.operators import staging
from airflow_mlops.operators.attempt import Attempt
from airflow_mlops.operators.contract import environment
from airflow_mlops.operators.docker import DockerStepOperator
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.identity import LABEL, MANAGED, NO_LABELS, SHELL, VISITOR, TaskIdentity
from airflow_mlops.operators.process import ProcessStepOperator
from airflow_mlops.operators.program import Invocation
from airflow_mlops.operators.programs import this_process
from airflow_mlops.operators.resolve import ResolvedInputs
from airflow_mlops.operators.secrets import read_secrets
from airflow_mlops.spec.parts import Output, Resources, Secret

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Place, Store
    from airflow_mlops.artifacts.manifest import SealedRuntime
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.settings import Settings

_SEAL = re.compile(r"(?:[0-9a-f]{12}/step|step-[0-9]{1,9})\.json\Z")
_ATTEMPT = re.compile(r"[0-9a-f]{12}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Visitor(TaskIdentity):
    """Who looks around in the place of a step. No try of the task must take the container for an attempt of its own."""

    def labels(self, attempt: str) -> dict[str, str]:
        """Labels of the container."""
        return {
            **NO_LABELS,
            MANAGED: "true",
            f"{LABEL}.instance": self.instance,
            SHELL: attempt,
            VISITOR: this_process(),
        }


@dataclass(frozen=True, slots=True)
class Reopened:
    """
    A place that is ready, but for the container or pod.

    :param program: what the step ran there, as words
    :param missing: why secrets are not there, if some are not
    :param argv: what is to run in place of the program
    :param terminal: whether it runs on a terminal
    :param user: that the step's program ran as, where that is sealed
    :param seal_key: where the seal lies in the store
    """

    operator: StepOperator
    attempt: Attempt
    program: Sequence[str]
    missing: Sequence[str]
    argv: Sequence[str]
    terminal: bool
    user: str | None
    seal_key: str


def newest_seal(store: Store, place: Place) -> Seal | None:
    """
    The seal of the last try of a step that was started; ``None`` if there is none.

    :param place: its generation does not matter
    :raises ArtifactError: if the store cannot be read
    """
    for generation in all_generations(store, place):
        found = max(_seals(store, generation), key=lambda seal: (seal.run.try_, _image_id(seal) or ""), default=None)
        if found is None:
            continue
        committed = find_committed(store, generation)
        if committed is not None and committed[0].attempt == found.run.attempt and found.runtime is not None:
            image = committed[0].runtime.get("image_id")
            found = found.model_copy(update={"runtime": found.runtime.model_copy(update={"image_id": image})})
        return found
    return None


def reopen(
    seal: Seal, place: Place, store: Store, settings: Settings, argv: Sequence[str], *, terminal: bool
) -> Reopened:
    """
    Bring everything that the program of a step had to this machine; what a pod brings itself is left to that.

    :param argv: what is to run in place of the program
    :param terminal: whether it runs on a terminal
    :raises BadStep: if the step ran no program, or somewhere else
    :raises ArtifactError: if something of it is gone, or was changed since
    """
    step, runtime = seal.step, seal.runtime
    if runtime is None or step.runtime not in ("docker", "process", "kubernetes"):
        raise BadStep(
            f"step '{step.name}' ran no program here; expected a step that ran on Docker, on Kubernetes or as a process"
        )
    _check_names(seal, runtime)
    try:
        operator = _operator(seal, runtime, argv, terminal)
    except (TypeError, ValueError) as error:
        raise BadStep(f"step '{step.name}': its seal in the store does not say how to run it: {error}") from error
    attempt = Attempt.plan(_visitor(seal, place), store, settings, new_attempt_id())
    attempt.outputs = attempt.workspace / "outputs"
    attempt.make()
    try:
        attempt.inputs = inputs = _inputs(seal)
        attempt.source_digest = step.source
        if step.runtime != "kubernetes" or store.local_path(attempt.key) is not None:
            _bring_files(operator, attempt, inputs, checkpoint=runtime.checkpoint)
        # Only now: nothing here is to touch the one that the next try goes on from.
        operator.checkpoint = runtime.checkpoint
        attempt.step_json.write_bytes(seal.to_bytes())
        layout = operator.layout(attempt)

        def here(text: str) -> str:
            """A text with the folder that the program saw, as it is called now."""
            return text.replace(runtime.root, layout.root)

        secrets, missing = _secrets(runtime.secrets)
        attempt.secret_files, secret_environment = secrets
        variables = environment(
            layout,
            input_paths=inputs.paths(layout),
            parameters=step.params,
            outputs=operator.outputs,
            secret_files={name: f"{layout.secrets}/{name}" for name in attempt.secret_files},
            checkpoint=runtime.checkpoint,
        )
        attempt.invocation = Invocation(
            image=runtime.image_id or step.image,
            command=argv,
            args=(),
            environment={**variables, **{name: here(value) for name, value in step.env.items()}},
            secret_environment=secret_environment,
            working_directory=layout.source if attempt.has_source else None,
            timeout=None,
        )
    except BaseException:
        attempt.close()
        raise
    program = [here(word) for word in (*step.entrypoint, *step.command, *step.args)]
    return Reopened(operator, attempt, program, missing, argv, terminal, step.user, _seal_key(seal, place, store))


def _bring_files(operator: StepOperator, attempt: Attempt, inputs: ResolvedInputs, *, checkpoint: bool) -> None:
    staging.stage(operator, attempt, inputs)
    if attempt.source_digest is not None:
        code = stored_source(attempt.store, attempt.identity.place, attempt.source_digest)
        unpack_source(code, attempt.source)
    if checkpoint:
        # A copy: looking around must not change what the next try goes on from.
        staging.fetch_checkpoint(attempt)


def _seal_key(seal: Seal, place: Place, store: Store) -> str:
    """Where the seal lies: beside what its attempt made, or, once that is gone, where failed tries are remembered."""
    its = replace(place, generation=seal.run.generation, incarnation=seal.run.incarnation)
    if _ATTEMPT.match(seal.run.attempt) and store.exists(key := its.step_json_key(seal.run.attempt)):
        return key
    return its.failed_step_key(seal.run.try_)


def _check_names(seal: Seal, runtime: SealedRuntime) -> None:
    """
    Refuse a seal whose names lead out of the folders that they are names in: what a store holds may have been written by anybody.

    :raises BadStep: if so
    """
    files = (_file(item.path or "", f"/inputs/{name}/") or "file" for name, item in seal.step.inputs.items())
    more = (_file(item.path, f"/outputs/{name}/") or "file" for name, item in seal.step.outputs.items())
    names = {*seal.step.inputs, *seal.step.outputs, *runtime.secrets}
    refused = [name for name in names if not _NAME.match(name)]
    refused += [file for file in (*files, *more) if "/" in file or file in (".", "..")]
    if refused:
        raise BadStep(
            f"step '{seal.step.name}': its seal in the store holds the name {refused[0][:80]!r}; expected one of letters, digits and '_': "
            "somebody changed it"
        )


def _operator(seal: Seal, runtime: SealedRuntime, argv: Sequence[str], terminal: bool) -> StepOperator:
    step = seal.step
    outputs = {
        name: Output.model_validate({"type": output.type, "file": _file(output.path, f"/outputs/{name}/")})
        for name, output in step.outputs.items()
    }
    common: dict[str, Any] = {"task_id": step.name, "command": list(argv), "outputs": outputs}
    if step.runtime == "process":
        return ProcessStepOperator(**common, venv=runtime.venv)
    if step.runtime == "kubernetes":
        return _pod_operator(seal, runtime, common)
    from docker.types import Ulimit

    from airflow_mlops.operators.docker_seal import SURROUNDINGS

    keywords = {name: value for name, value in runtime.docker.items() if name in SURROUNDINGS}
    if "ulimits" in keywords:
        keywords["ulimits"] = [Ulimit(**limit) for limit in keywords["ulimits"]]
    operator = DockerStepOperator(
        **common,
        **keywords,
        image=step.image,
        user=step.user,
        working_dir=step.working_dir,
        tty=terminal,
        volumes=[_volume(text) for text in step.mounts],
        cpu=runtime.cpu,
        memory=runtime.memory,
        gpu=runtime.gpu,
        shm=runtime.shm,
    )
    operator.stdin_open = True
    return operator


def _pod_operator(seal: Seal, runtime: SealedRuntime, common: Mapping[str, Any]) -> StepOperator:
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.spec.pod_keywords import KUBERNETES_KEYWORDS

    known = KUBERNETES_KEYWORDS | {"pod", "gpu_resource"}
    resources = {name: getattr(runtime, name) for name in ("cpu", "memory", "gpu", "shm", "disk")}
    return KubernetesStepOperator(
        **common,
        **{name: value for name, value in runtime.kubernetes.items() if name in known},
        image=seal.step.image,
        volumes=[_volume(text) for text in seal.step.mounts],
        step_resources=Resources.model_validate(resources),
    )


def _volume(text: str) -> dict[str, Any]:
    mounted, _, mode = text.rpartition(":") if text.endswith(":ro") else (text, "", "")
    source, _, target = mounted.rpartition(":")
    return {"source": source, "target": target, "read_only": mode == "ro"}


def _inputs(seal: Seal) -> ResolvedInputs:
    inputs = ResolvedInputs()
    for name, sealed in seal.step.inputs.items():
        output = sealed.uri.rpartition("/outputs/")[2].partition("/")[0]
        document = {
            "name": output if _NAME.match(output) else name,
            "type": sealed.type,
            "uri": sealed.uri,
            "digest": sealed.digest,
            "file": _file(sealed.path or "", f"/inputs/{name}/"),
            "metadata": sealed.metadata,
        }
        inputs.artifacts[name] = Artifact.from_json(document)
        if sealed.path is None:
            inputs.unstaged.add(name)
    return inputs


def _file(path: str, folder: str) -> str | None:
    """The name that a file has in a folder of the contract; ``None`` where the path is the folder itself."""
    return path.rpartition(folder)[2] if folder in path else None


def _visitor(seal: Seal, place: Place) -> Visitor:
    run = seal.run
    current = Try(
        id=run.starter,
        map_index=run.map_index,
        try_number=run.try_,
        max_tries=run.try_,
        retries=0,
        clears=0,
        run_started=0,
    )
    return Visitor(
        place.instance,
        place.pipeline,
        place.run,
        place.step,
        current,
        generation=run.generation,
        incarnation=run.incarnation,
    )


def _secrets(references: Mapping[str, Mapping[str, str]]) -> tuple[tuple[dict[str, str], dict[str, str]], list[str]]:
    files: dict[str, str] = {}
    variables: dict[str, str] = {}
    missing = []
    for name, reference in references.items():
        try:
            secret = Secret.model_validate(dict(reference))
        except ValueError as error:
            raise BadStep(f"the seal in the store does not say where secret '{name}' is: {error}") from error
        try:
            some_files, some_variables = read_secrets({name: secret})
        except BadStep as error:
            missing.append(str(error))
            continue
        files.update(some_files)
        variables.update(some_variables)
    return (files, variables), missing


def _seals(store: Store, generation: Place) -> Iterator[Seal]:
    """Seals of a generation that can be read, and are of it."""
    keys = store.list(generation.generation_key)
    folder = f"{generation.generation_key}/"
    candidates = [*keys, *(f"{key}/{STEP}" for key in keys)]
    for key in candidates:
        if not _SEAL.match(key.removeprefix(folder)):
            continue
        try:
            seal = Seal.from_bytes(store.read(key, Seal.limit))
        except ArtifactError:
            continue
        own = replace(generation, generation=seal.run.generation, incarnation=seal.run.incarnation)
        if own == generation and (seal.step.pipeline, seal.run.id, seal.step.name) == (own.pipeline, own.run, own.step):
            yield seal


def _image_id(seal: Seal) -> str | None:
    return seal.runtime.image_id if seal.runtime is not None else None
