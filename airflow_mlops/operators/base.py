# SPDX-License-Identifier: Apache-2.0
"""
The life of a step, whatever its runtime: resolve, run, commit, publish.

A runtime (:mod:`~airflow_mlops.operators.process`, :mod:`~airflow_mlops.operators.docker`) subclasses :class:`StepOperator` and says how a
program is started, awaited and stopped; everything around that is here, once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator
from pydantic import ValidationError

from airflow_mlops.operators import settings as deployment
from airflow_mlops.operators.artifact_arg import ArtifactXComArg
from airflow_mlops.operators.failures import BadStep, StepFailure
from airflow_mlops.operators.links import ArtifactsLink
from airflow_mlops.operators.version_compat import AIRFLOW_V_3_2_PLUS
from airflow_mlops.spec.parts import DEFAULT_GRACE, OnDrain, Output, Resources, Secret, SpecModel, Volume

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Place
    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.operators.contract import Layout
    from airflow_mlops.operators.logs import LineLog
    from airflow_mlops.operators.program import Program
    from airflow_mlops.operators.resolve import ResolvedInputs

Model = TypeVar("Model", bound=SpecModel)


class StepOperator(BaseOperator):
    """
    Run a program as a step of a pipeline and hand on what it wrote.

    :param image: image of the container; the process runtime ignores it (templated)
    :param command: the program and its first arguments, as a list; no shell is involved (templated)
    :param args: further arguments (templated)
    :param env: environment variables (templated)
    :param parameters: values that the program gets as ``MLOPS_PARAM_<NAME>`` (templated)
    :param inputs: what the step reads, by name: ``{"train": split.artifact("train")}``, or the long form
        ``{"train": {"from": split.artifact("train"), "stage": "none", "optional": True}}``
    :param outputs: what the step makes, by name: a type (``"dataset"``, ``"integer"``), or the long form
        ``{"type": "dataset", "file": "train.csv"}``; with ``"asset": True`` (or a URI or name) a commit updates an Airflow asset
    :param secrets: by name, a reference to a connection or variable: ``{"TOKEN": {"variable": "hub_token"}}``
    :param source: folder with the step's code; it is copied, and becomes the program's working directory
    :param cpu: number of CPUs
    :param memory: bytes, or a quantity such as ``"2Gi"``
    :param gpu: number of GPUs
    :param shm: size of shared memory, bytes or a quantity
    :param step_timeout: how long the program may run, counted from its start
    :param checkpoint: keep ``/mlops/checkpoint`` over the attempts of one run of the step
    :param stop_grace: how long the program may take to end when it is asked to, before it is killed
    :param on_drain: what becomes of the program when its worker shuts down: ``detach`` leaves a container to the next try, ``stop`` stops it;
        default ``[mlops] on_drain``. A process is always stopped
    :param keep_failed: how long what a failed program left (its files, its container) is kept for somebody to look at; by default not at all
    :param volumes: further folders: ``[{"source": "/data", "target": "/data", "read_only": True}]``
    :param retries: how often a failure of the program itself is retried
    :param infra_retries: how often a failure around it (daemon, store, worker) is retried; default ``[mlops] infra_retries``
    :param docker_host_conn_id: Airflow connection of the Docker daemon that runs the container, in place of ``docker_url``; default
        ``[mlops] docker_host_conn_id``; the process runtime ignores it
    :param step_resources: the same as a model, in place of ``cpu``, ``memory``, ``gpu`` and ``shm``
    :param program: what a spec says the step runs; excludes ``command``, ``args``, ``env``, ``parameters`` and ``inputs``
    """

    kind: ClassVar[str] = "container"
    runtime: ClassVar[str]

    step_retries: int
    infra_retries: int
    outputs: dict[str, Output]
    secrets: dict[str, Secret]
    source: str | Path | None
    step_resources: Resources
    step_timeout: timedelta | None
    checkpoint: bool
    stop_grace: timedelta
    on_drain: OnDrain | None
    docker_host_conn_id: str | None
    keep_failed: timedelta | None
    volumes: list[Volume]
    program: Program | None
    image: str | None
    command: Sequence[str] | None
    args: Sequence[str] | None
    env: Mapping[str, str] | None
    parameters: Mapping[str, Any] | None
    inputs: Mapping[str, Any] | None
    committed: Place | None
    _attempt: Attempt | None
    _killed: bool
    _detached: bool
    _signalled: bool

    template_fields: Sequence[str] = ("inputs", "image", "command", "args", "env", "parameters")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "inputs": "json",
        "command": "json",
        "args": "json",
        "env": "json",
        "parameters": "json",
    }
    template_ext: Sequence[str] = ()
    operator_extra_links = (ArtifactsLink(),)
    ui_color = "#e8f1f8"
    _converted: ClassVar[frozenset[str]]
    overwrite_rtif_after_execution = True
    began_at: float | None = None
    """When the try began, seconds since the epoch; it may have been in another process."""

    def __init__(
        self,
        *,
        image: str | None = None,
        command: Sequence[str] | None = None,
        args: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        source: str | Path | None = None,
        cpu: float | str | None = None,
        memory: int | str | None = None,
        gpu: int = 0,
        shm: int | str | None = None,
        step_timeout: timedelta | None = None,
        checkpoint: bool = False,
        stop_grace: timedelta = DEFAULT_GRACE,
        on_drain: OnDrain | None = None,
        keep_failed: timedelta | None = None,
        volumes: Sequence[Any] | None = None,
        docker_host_conn_id: str | None = None,
        retries: int = 0,
        infra_retries: int | None = None,
        program: Program | None = None,
        step_resources: Resources | None = None,
        **kwargs: Any,
    ) -> None:
        infra_retries = deployment.default_infra_retries() if infra_retries is None else infra_retries
        # Set together: Airflow's operators check each attribute that is assigned, which a DAG of a thousand steps would notice.
        self.__dict__.update(
            step_retries=retries,
            infra_retries=infra_retries,
            outputs=_read("outputs", Output, outputs),
            secrets=_read("secrets", Secret, secrets),
            source=source,
            step_resources=step_resources
            or checked("resources", Resources, {"cpu": cpu, "memory": memory, "gpu": gpu, "shm": shm}),
            step_timeout=step_timeout,
            checkpoint=checkpoint,
            stop_grace=stop_grace,
            on_drain=on_drain,
            keep_failed=keep_failed,
            volumes=[checked("volumes", Volume, volume) for volume in volumes or ()],
            docker_host_conn_id=docker_host_conn_id,
            program=program,
            committed=None,
            _attempt=None,
            _killed=False,
            _detached=False,
            _signalled=False,
        )
        super().__init__(
            retries=retries + infra_retries + deployment.adoption_headroom(), **self._runtime_keywords(image, kwargs)
        )
        if any(output.asset for output in self.outputs.values()):
            from airflow_mlops.operators.assets import outlets_of

            self.outlets = [*self.outlets, *(asset for asset in outlets_of(self) if asset not in self.outlets)]
        if program is not None:
            inputs = {name: str(wire) for name, wire in program.inputs.items()}
        self.__dict__.update(image=image, command=command, args=args, env=env, parameters=parameters, inputs=inputs)

    def __setattr__(self, key: str, value: Any) -> None:
        """
        Do what Airflow's operators do when an attribute is assigned, sooner.

        They look for a converter by name each time. A constructor assigns a hundred attributes, so that was a third of what a DAG of steps
        costs to parse; which names have a converter is known by the class.
        """
        own = self.__dict__
        if key in self._converted or "_BaseOperator__instantiated" in own:
            super().__setattr__(key, value)
            return
        own[key] = value
        keywords = own["_BaseOperator__init_kwargs"]
        if key in keywords and not own["_BaseOperator__from_mapped"]:
            keywords[key] = value

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._converted = _converted_attributes(cls)

    def _runtime_keywords(self, image: str | None, keywords: dict[str, Any]) -> dict[str, Any]:
        """The keywords of the next class, after a runtime took its own; a method, since another ``__init__`` would cost every step."""
        return keywords

    # What a hand-written DAG uses

    def artifact(self, name: str) -> ArtifactXComArg:
        """
        An output of this step, to be given to another step's ``inputs``.

        :raises BadStep: if the step has no such output
        """
        if name not in self.outputs:
            made = ", ".join(self.outputs) or "none"
            raise BadStep(f"step '{self.task_id}' has no output '{name}'; its outputs: {made}")
        return ArtifactXComArg(operator=self, output=name)

    # What a runtime says

    def layout(self, attempt: Attempt) -> Layout:
        """The paths of the contract, as the program sees them."""
        raise NotImplementedError

    def sealed_container(self, attempt: Attempt) -> dict[str, Any]:
        """What the seal says of the program's surroundings, beside what every step has; its fields are those of ``SealedStep``."""
        return {}

    def sealed_runtime(self, attempt: Attempt) -> dict[str, Any]:
        """What the seal says of what surrounds the program; its fields are those of ``SealedRuntime``."""
        return {
            **self.step_resources.model_dump(),
            "root": self.layout(attempt).root,
            "checkpoint": self.checkpoint,
            "secrets": {
                name: secret.model_dump(by_alias=True, exclude_none=True) for name, secret in self.secrets.items()
            },
        }

    def image_id(self) -> str | None:
        """Id of the image that the program was started from, once it is known."""
        return None

    def stage_files(self, attempt: Attempt, inputs: ResolvedInputs) -> None:
        """
        Bring what the program reads to where it will look for it.

        :raises ArtifactError: if something cannot be read, or is not what its digest says
        """
        from airflow_mlops.operators.staging import stage

        stage(self, attempt, inputs)

    def recall_files(self, attempt: Attempt, inputs: ResolvedInputs) -> None:
        """Know of an attempt that runs already what :meth:`stage_files` would have brought."""
        from airflow_mlops.operators.staging import recall

        recall(self, attempt, inputs)

    def keep_checkpoint(self, attempt: Attempt) -> None:
        """Put the checkpoint where the next try finds it, however the program ended."""
        from airflow_mlops.operators.staging import keep_checkpoint

        keep_checkpoint(attempt)

    def run_program(self, attempt: Attempt) -> Ended:
        """
        Start the attempt's program, follow it, and say how it ended.

        :raises StepFailure: if it could not be started, or did not end by itself
        """
        raise NotImplementedError

    def clear_earlier(self, attempt: Attempt) -> str | None:
        """
        Remove what earlier tries of this task left running or ended, all but what this try can go on with.

        :return: the id of the attempt to go on with, if there is one; :meth:`run_program` then follows it
        :raises StepFailure: if that cannot be found out, or another try has begun
        """
        return None

    def lives_on(self) -> bool:
        """Whether there is a program, running or ended, that another try can go on with."""
        return False

    def detaches(self, attempt: Attempt) -> bool:
        """Whether a worker that shuts down leaves the program to the next try."""
        return False

    def grace_seconds(self) -> int:
        """Seconds between asking the program to end and killing it."""
        return max(0, round(self.stop_grace.total_seconds()))

    def forget_program(self, attempt: Attempt) -> None:
        """Remove the program and what was made for it alone; nothing happens if there is none."""

    def evidence(self, attempt: Attempt) -> str:
        """What a failed attempt leaves to look at beside its files, in words that follow those."""
        return ""

    def let_go(self) -> None:
        """Close what the runtime keeps open; the step is over."""

    def stop_program(self, attempt: Attempt) -> None:
        """Stop the attempt's program, if it runs. May be called twice, and from a signal handler."""
        raise NotImplementedError

    def look_up(self, context: Any, attempt: Attempt) -> ResolvedInputs:
        """
        What the inputs are now.

        :raises BadStep: if one is not there
        """
        from airflow_mlops.operators.preparation import wires_of
        from airflow_mlops.operators.resolve import resolve_inputs

        return resolve_inputs(wires_of(self), ti=context["ti"], attempt=attempt)

    def line_log(self, attempt: Attempt) -> LineLog:
        """Where a program's output goes: into the task's log, line by line, without the step's secrets."""
        from airflow_mlops.operators.logs import LineLog

        log = self.log  # a property that costs as much as the line

        return LineLog(lambda line: log.info("%s", line), attempt.secret_values)

    # What Airflow calls

    def render_template(
        self, content: Any, context: Any, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Render an author's templates: Airflow's whole context, and our names beside it. Mapped tasks come through here, too."""
        if self.program is None and content is not None:
            # The inputs themselves come first; our names exist when they are known.
            from airflow_mlops.operators.life import rendered_by_airflow

            names: Any = {**context, "mlops_names": {}} if content is self.inputs else self._with_our_names(context)
            render = super().render_template
            return rendered_by_airflow(self, context, lambda: render(content, names, jinja_env, seen_oids))
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Any) -> dict[str, Any]:
        """
        Live the life of a step.

        :return: the reference to what was committed, for XCom
        :raises StepFailure: one subclass a failure class
        :raises AirflowFailException: if no further try is worth it
        """
        try:
            return self._live(context)
        except (StepFailure, AirflowFailException) as failure:
            raise self._told_to_airflow(failure)  # noqa: B904

    def _told_to_airflow(self, failure: AirflowException) -> AirflowException:
        """A failure as Airflow makes the most of it."""
        if isinstance(failure, StepFailure) and not AIRFLOW_V_3_2_PLUS:
            # Airflow 3.1 sends rendered fields after it has told that a retry follows, is refused, and then calls nobody back.
            self.overwrite_rtif_after_execution = False
        # The message ends the search; where in this package it was raised only buries it in the task's log.
        return failure.with_traceback(None)

    def _live(self, context: Any) -> dict[str, Any]:
        from airflow_mlops.operators.life import live

        return live(self, context)

    def on_kill(self) -> None:
        """
        Stop the program: the task was marked, cleared or timed out. Where its worker shuts down, leave it to the next try, if it can be left.

        :raises StepDetached: if it was left
        """
        if self._attempt is None:
            self._killed = True
        elif not self._signalled:
            self._signalled = True
            from airflow_mlops.operators.stopping import on_signal

            on_signal(self, self._attempt)

    @property
    def log(self) -> Any:
        """
        Where the step's own lines go. Airflow 3.1 gives its own logger of an operator the name of everything else that a task logs, so that
        the step's lines could not be told from Airflow's.
        """
        if AIRFLOW_V_3_2_PLUS:
            return super().log
        return logging.getLogger(f"airflow.task.operators.{type(self).__module__}.{type(self).__qualname__}")

    def _with_our_names(self, context: Any) -> Any:
        names = context.get("mlops_names")
        if names is None:
            from airflow_mlops.operators.life import names_for_author

            context["mlops_names"] = names = names_for_author(self, context)
        return {**context, **names}


def _converted_attributes(cls: type) -> frozenset[str]:
    """
    The attributes whose assignment is more than a value in the instance: a class has a method ``_convert_…`` for those that Airflow
    converts, and properties.
    """
    prefix = "_convert_"
    members = [item for base in cls.__mro__ for item in vars(base).items()]
    converted = {name.removeprefix(prefix) for name, _ in members if name.startswith(prefix)}
    return frozenset(converted | {name for name, value in members if hasattr(type(value), "__set__")})


StepOperator._converted = _converted_attributes(StepOperator)


def _read(keyword: str, model: type[Model], values: Mapping[str, Any] | None) -> dict[str, Model]:
    """Take the short or long form of each value, or the model that a spec's reader made of it."""
    if not values:
        return {}
    if not isinstance(values, Mapping):
        raise BadStep(f"{keyword} is {values!r}; expected a dictionary of {model.__name__.lower()}s by name")
    return {name: checked(f"{keyword}[{name!r}]", model, value) for name, value in values.items()}


def checked(where: str, model: type[Model], value: Any) -> Model:
    """
    Make a model of what an author wrote.

    :raises BadStep: if it is none, with every problem of it
    """
    if isinstance(value, model):
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}".removeprefix(": ")
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise BadStep(f"{where} is {value!r}: {problems}") from None
