# SPDX-License-Identifier: Apache-2.0
"""
Tracking: what a run does and measures, on the deployment's MLflow server.

One MLflow run for a run of the pipeline, in the experiment of its name, and within it one for each step, which the step's own calls of MLflow
land in. Nothing hangs on it: a step waits for a second at most, whatever the server does, and what goes wrong is a warning in the log. Which
MLflow run belongs to a run of the pipeline is a document in the store, put if absent, since two steps may begin it at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops.artifacts import Artifact, ArtifactError, NotFound, StepReference
from airflow_mlops.artifacts.metrics import fetch_metrics
from airflow_mlops.artifacts.shapes import is_number
from airflow_mlops.operators.failures import StepFailure
from airflow_mlops.operators.mlflow_connection import URI, MlflowAddress, mlflow_address
from airflow_mlops.spec.templates import as_text

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.mlflow_rest import Metric, MlflowRest

PATIENCE = 1.0
"""Seconds that a step waits for the server in all, beyond what it does itself meanwhile."""

PATIENCE_AT_BEGIN = 0.8
"""How much of that it may wait before its program begins."""

RUN_ID = "MLFLOW_RUN_ID"

State = Literal["FINISHED", "FAILED", "KILLED"]

_FAILED = "mlops.failed."
_LONGEST = 10.0
"""Seconds after which a request that nobody waits for any more is given up."""

_MAX_DOCUMENT = 4096


class Telling:
    """
    What the server is told, in a thread of its own, while the step goes on.

    :param operator: has the log
    :param job: tells it, and calls what it is given with the id of the MLflow run as soon as that is known
    """

    def __init__(self, operator: StepOperator, job: Callable[[Callable[[str], None]], None]) -> None:
        self._log = operator.log
        self._job = job
        self._run = ""
        self._failure: Exception | None = None
        self._known, self._done = threading.Event(), threading.Event()
        threading.Thread(target=self._tell, name="mlflow-tracking", daemon=True).start()

    def run(self, seconds: float) -> str | None:
        """The id of the MLflow run, if it is known in time; a warning if not."""
        self._known.wait(seconds)
        self._warn(seconds, complete=bool(self._run))
        return self._run or None

    def told(self) -> str | None:
        """Wait until all is told, or cannot be; the id of the MLflow run, if it is known then."""
        self._done.wait()
        return self._run or None

    def finish(self, seconds: float) -> None:
        """Wait until all is told, if it is in time; a warning if not. It goes on afterwards, as long as this process does."""
        self._done.wait(seconds)
        self._warn(seconds, complete=self._done.is_set())

    def _warn(self, seconds: float, *, complete: bool) -> None:
        if self._failure is not None:
            self._log.warning("Not tracked, or not all of it: the MLflow server: %s", self._failure)
        elif not complete:
            self._log.warning("Not tracked, or not all of it: the MLflow server takes longer than %.1f s", seconds)

    def _tell(self) -> None:
        try:
            self._job(self._tell_run)
        except Exception as error:  # noqa: BLE001 - whatever becomes of tracking, the step is not to know
            self._failure = error
        finally:
            self._done.set()
            self._known.set()

    def _tell_run(self, run: str) -> None:
        self._run = run
        self._known.set()


@dataclass(frozen=True)
class Tracked:
    """
    What a program is given so that its own calls of MLflow land in the run of its step.

    :param variables: of its environment
    :param credentials: variables that are shown nowhere
    :param telling: what is still being told
    :param waited: seconds that the step has waited for it
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    telling: Telling | None = None
    waited: float = PATIENCE_AT_BEGIN


@dataclass(frozen=True)
class _Parent:
    """The MLflow run of a run of the pipeline."""

    experiment: str
    run: str


def begin(
    operator: StepOperator, context: Any, attempt: Attempt, parameters: Mapping[str, Any]
) -> Callable[[], Tracked | None]:
    """
    Begin the run of a step.

    :param parameters: of the step
    :return: waits for what the program is to be given
    """
    address = _address(operator, attempt)
    if address is None:
        return lambda: None
    telling = Telling(operator, lambda known: _Tracking(address, context, attempt).begin(parameters, known))

    def wait() -> Tracked:
        began = time.monotonic()
        run = telling.run(PATIENCE_AT_BEGIN)
        waited = time.monotonic() - began
        if run is None:
            return Tracked(telling=telling, waited=waited)
        return Tracked({URI: address.uri, RUN_ID: run}, address.credentials, telling, waited)

    return wait


def end(
    operator: StepOperator, context: Any, attempt: Attempt, state: State, reference: Mapping[str, Any] | None = None
) -> Callable[[], None]:
    """
    End the run of a step, which is begun if it was not.

    :param reference: to what it committed
    :return: waits until it is
    """
    address = _address(operator, attempt)
    if address is None:
        return lambda: None
    telling = Telling(operator, lambda known: _Tracking(address, context, attempt).end(state, reference))
    # What another process has waited when the step began is not known here.
    waited = attempt.tracked.waited if attempt.tracked is not None else PATIENCE_AT_BEGIN
    return lambda: telling.finish(max(PATIENCE - waited, 0))


def tell(
    operator: StepOperator, context: Any, attempt: Attempt, state: State, reference: Mapping[str, Any] | None = None
) -> None:
    """Track a step that runs no program, all of it at once."""
    attempt.tracked = Tracked(waited=0)
    end(operator, context, attempt, state, reference)()


def secrets_of(attempt: Attempt) -> dict[str, dict[str, Any]]:
    """References to what a program was given of the server's credentials, for whoever shows its output elsewhere."""
    if attempt.tracked is None or not attempt.tracked.credentials:
        return {}
    return {"MLFLOW": {"connection": attempt.settings.mlflow_conn_id, "field": "password", "as": "env"}}


def _address(operator: StepOperator, attempt: Attempt) -> MlflowAddress | None:
    settings = attempt.settings
    if settings.mlflow_conn_id is None or not settings.mlflow_tracking:
        return None
    try:
        return mlflow_address(settings)
    except StepFailure as error:
        operator.log.warning("Not tracked: %s", error)
        return None


class _Tracking:
    """One moment of a step at which the server is told something."""

    def __init__(self, address: MlflowAddress, context: Any, attempt: Attempt) -> None:
        from airflow_mlops.operators.mlflow_rest import MlflowRest

        self._rest: MlflowRest = MlflowRest(address, _LONGEST)
        self._context = context
        self._attempt = attempt
        self._identity = attempt.identity
        digest = hashlib.sha256(address.uri.encode()).hexdigest()[:12]
        self._key = f"{attempt.identity.place.run_key}/_mlflow/{digest}.json"

    def begin(self, parameters: Mapping[str, Any], known: Callable[[str], None]) -> None:
        """Have the run of the step, say its id, and what else is to be told."""
        try:
            parent, is_new = self._parent()
            is_first = self._identity.try_number == self._identity.generation
            run = self._new_run(parent) if is_first else self._run(parent)
            known(run)
            self._rest.log(run, params={name: as_text(value) for name, value in parameters.items()})
            self._rest.update(parent.run, "RUNNING")
            if not is_first:
                self._rest.update(run, "RUNNING")
            if is_new:
                params = self._context["params"]
                self._rest.log(parent.run, params={name: as_text(params[name]) for name in params})
        finally:
            self._rest.close()

    def end(self, state: State, reference: Mapping[str, Any] | None) -> None:
        """Write what the step made, and that it has ended."""
        # In this order, also where a program ends before the server has heard of its begin.
        begun = self._attempt.tracked.telling if self._attempt.tracked is not None else None
        known = begun.told() if begun is not None else None
        try:
            parent, _ = self._parent()
            run = known or self._run(parent)
            made = StepReference.from_json(dict(reference)) if reference is not None else None
            numbers = list(self._numbers(made)) if made is not None else []
            if made is not None:
                self._rest.log(run, numbers, tags=dict(_artifacts(made)))
            self._rest.update(run, state, _now())
            if numbers:
                step = self._identity.task_id
                self._rest.log(parent.run, [one._replace(key=f"{step}/{one.key}") for one in numbers])
            self._end_parent(parent, state)
        finally:
            self._rest.close()

    def _end_parent(self, parent: _Parent, state: State) -> None:
        """A run of the pipeline is over when none of its steps runs, which no step can know; the next one begins it again."""
        own = f"{_FAILED}{self._identity.task_id}"
        tags = self._rest.tags(parent.run)
        if state != "FINISHED" and own not in tags:
            self._rest.log(parent.run, tags={own: state})
        elif state == "FINISHED" and own in tags:
            self._rest.delete_tag(parent.run, own)
        failed = {tag for tag in tags if tag.startswith(_FAILED)} - {own}
        self._rest.update(parent.run, "FAILED" if failed or state != "FINISHED" else "FINISHED", _now())

    def _parent(self) -> tuple[_Parent, bool]:
        """The MLflow run of this run of the pipeline, which is made by whoever comes first; and whether that was now."""
        if (known := self._known()) is not None:
            return known, False
        identity = self._identity
        experiment = self._rest.experiment(identity.dag_id)
        tags = {**self._tags(), "mlflow.source.type": "JOB", "mlflow.source.name": identity.dag_id}
        run = self._rest.create_run(experiment, identity.run_id, _now(), tags)
        document = json.dumps({"experiment": experiment, "run": run}).encode()
        if self._attempt.store.put_if_absent(self._key, document) or (known := self._known()) is None:
            return _Parent(experiment, run), True
        self._rest.delete_run(run)
        return known, False

    def _known(self) -> _Parent | None:
        try:
            document = json.loads(self._attempt.store.read(self._key, _MAX_DOCUMENT))
            return _Parent(str(document["experiment"]), str(document["run"]))
        except NotFound:
            return None

    def _run(self, parent: _Parent) -> str:
        """The run of this step; a try after the first one goes on with it."""
        return self._rest.find_run(parent.experiment, self._ours(parent)) or self._new_run(parent)

    def _new_run(self, parent: _Parent) -> str:
        identity = self._identity
        name = identity.task_id if identity.map_index < 0 else f"{identity.task_id}[{identity.map_index}]"
        tags = {**self._tags(), **self._ours(parent), "mlops.task": identity.task_id}
        return self._rest.create_run(parent.experiment, name, _now(), tags)

    def _ours(self, parent: _Parent) -> dict[str, str]:
        """The tags that tell the run of this step from others."""
        return {"mlflow.parentRunId": parent.run, "mlops.step": self._step(), "mlops.generation": self._generation()}

    def _step(self) -> str:
        """The step and its iteration as the store spells them, in letters that a search takes."""
        place = self._identity.place
        return place.step_key.removeprefix(f"{place.run_key}/")

    def _generation(self) -> str:
        return f"{self._identity.generation}.{self._identity.incarnation}"

    def _tags(self) -> dict[str, str]:
        identity = self._identity
        return {"mlops.instance": identity.instance, "mlops.pipeline": identity.dag_id, "mlops.run": identity.run_id}

    def _numbers(self, made: StepReference) -> Iterator[Metric]:
        """The numbers of a step's metrics; of a curve, its points in their order."""
        from airflow_mlops.operators.mlflow_rest import Metric

        several = sum(artifact.type == "metrics" for artifact in made.artifacts.values()) > 1
        moment = _now()
        for name, artifact in made.artifacts.items():
            if artifact.type != "metrics":
                continue
            prefix = f"{name}/" if several else ""
            for key, value in artifact.metadata.items():
                if is_number(value) and math.isfinite(value):
                    yield Metric(f"{prefix}{key}", float(value), moment)
            for key, step, value in self._points(artifact):
                yield Metric(f"{prefix}{key}", value, moment, step)

    def _points(self, artifact: Artifact) -> Iterator[tuple[str, int, float]]:
        store = self._attempt.store
        if not store.contains(artifact.uri):
            return
        try:
            shapes = fetch_metrics(store, store.key(artifact.uri), artifact.digest).shapes
        except ArtifactError:
            return  # what it holds was checked when it was committed; a part that cannot be read is not tracked
        for key, shape in shapes.items():
            lines: Any = getattr(shape, "series", None) or ([shape] if hasattr(shape, "x") else [])
            for line in lines:
                name = f"{key}/{line.name}" if hasattr(line, "name") else key
                yield from _line(name, line.x, line.y)


def _line(name: str, x: list[float], y: list[float]) -> Iterator[tuple[str, int, float]]:
    """
    The points of a line. MLflow counts steps: where ``x`` counts, it is them; else both axes are numbers of their own.
    """
    counts = all(float(value).is_integer() and abs(value) < 1 << 53 for value in x) and len({*x}) == len(x)
    for place, (across, up) in enumerate(zip(x, y, strict=True)):
        if counts:
            yield name, int(across), float(up)
        else:
            yield f"{name}.x", place, float(across)
            yield f"{name}.y", place, float(up)


def _artifacts(made: StepReference) -> Iterator[tuple[str, str]]:
    for name, artifact in made.artifacts.items():
        yield f"mlops.artifact.{name}", artifact.uri
        yield f"mlops.digest.{name}", artifact.digest
    for name, value in made.parameters.items():
        yield f"mlops.output.{name}", as_text(value)
    yield "mlops.manifest", made.manifest


def _now() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
