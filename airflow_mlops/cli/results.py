# SPDX-License-Identifier: Apache-2.0
"""What a run made, read from the manifests in the store: they are what is committed, whatever a database says."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.console import ENDED, shortened, word
from airflow_mlops.cli.progress import step_name
from airflow_mlops.spec.outcome import OUTCOME

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact, Manifest, Place, Store
    from airflow_mlops.cli.embedded import RunRecord, TaskResult
    from airflow_mlops.cli.records import Order

_FAILURE_LIMIT = 64 * 1024
_CLASSES = re.compile(r"^\w+: (?:[a-z-]+: (?=step '))?")
_REASON = 200
_TAIL = 20
"""Lines of its own log that a failed step is shown with."""


@dataclass
class StepOutcome:
    """
    How one step ended, and what it handed on.

    :param name: the step as its spec calls it, with the index of a mapped one
    :param state: in the words of :mod:`~airflow_mlops.cli.console`
    :param seconds: how long its last try took
    :param kind: what it is for, if it committed something
    :param error: the one line that says why it failed
    :param tail: the end of its log, if it failed
    """

    name: str
    task_id: str
    map_index: int
    state: str
    seconds: float | None = None
    tries: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    error: str | None = None
    tail: list[str] = field(default_factory=list)
    log: Path | None = None
    kind: str = ""


@dataclass
class Outcome:
    """
    How a run ended.

    :param state: ``success``, ``failed``, ``interrupted`` or ``timeout``
    :param folder: URI of what the run keeps in the store
    :param step: the one step that was run; ``None`` for the pipeline
    """

    run: str
    pipeline: str
    state: str
    seconds: float | None
    folder: str
    steps: list[StepOutcome]
    step: str | None = None

    def as_document(self) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "run": self.run,
            "pipeline": self.pipeline,
            "state": self.state,
            "seconds": _rounded(self.seconds),
            "store": self.folder,
            "steps": {step.name: _step_document(step) for step in self.steps},
        }


def read_outcome(record: RunRecord, order: Order, store: Store) -> Outcome:
    """
    All that is known of a run that has ended, or is under way.

    :raises ArtifactError: if the store cannot be read
    """
    steps = []
    for task in record.tasks:
        if order.step is not None and word(task.state) == "success" and task.task_id != order.step.rpartition("/")[2]:
            continue  # it stood in for a step that makes an input
        if task.task_id == OUTCOME:
            continue
        place = place_of(order, task.task_id, task.map_index)
        step = _outcome(task, place, store)
        if step.state == "failed":
            _explain(step, task, place, store)
        if not record.alive and step.state not in ENDED:
            step.state = "not run" if step.state == "waiting" else "stopped"
        steps.append(step)
    seconds = (record.ended - record.started).total_seconds() if record.ended and record.started else None
    folder = store.uri(place_of(order, "-").run_key)
    return Outcome(record.path.name, order.pipeline, record.state, seconds, folder, steps, order.step)


def place_of(order: Order, task_id: str, map_index: int = -1) -> Place:
    """Where a run's step keeps its things, generation aside."""
    from airflow_mlops.artifacts import Place

    return Place.of_task(order.instance, order.pipeline, order.run_id, task_id, map_index)


def read_manifest(store: Store, place: Place) -> Manifest | None:
    """
    The manifest of the newest generation of a step; ``None`` if none is committed.

    :raises ArtifactError: if the store cannot be read, or the manifest is not one
    """
    from airflow_mlops.artifacts import all_generations, find_committed

    for generation in all_generations(store, place):
        found = find_committed(store, generation)
        if found is not None:
            return found[0]
    return None


def all_manifests(store: Store, order: Order, steps: Iterable[tuple[str, int]]) -> dict[str, Manifest]:
    """
    What the steps of a run committed, by the name of the step.

    :param steps: task ids and map indexes
    """
    found = {step_name(task, index): read_manifest(store, place_of(order, task, index)) for task, index in steps}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def _outcome(task: TaskResult, place: Place, store: Store) -> StepOutcome:
    step = StepOutcome(
        name=step_name(task.task_id, task.map_index),
        task_id=task.task_id,
        map_index=task.map_index,
        state=word(task.state),
        seconds=(task.end - task.start).total_seconds() if task.start and task.end and task.log_path else None,
        tries=task.try_number,
        log=task.log_path,
    )
    manifest = read_manifest(store, place) if step.state == "success" else _verdict(step, store, place)
    if manifest is not None:
        step.kind = manifest.kind
        step.artifacts = {name: manifest.artifact(name) for name in manifest.artifacts}
        step.parameters, step.metrics = dict(manifest.parameters), dict(manifest.metrics)
    return step


def _verdict(step: StepOutcome, store: Store, place: Place) -> Manifest | None:
    """What a gate found that did not open, and why a person said no: it is committed all the same."""
    from airflow_mlops.artifacts import all_generations, find_committed

    if step.state not in ("failed", "skipped"):
        return None
    newest = next(iter(all_generations(store, place)), None)
    found = find_committed(store, newest) if newest is not None else None
    return found[0] if found is not None and found[0].kind in ("gate", "approve") else None


def _explain(step: StepOutcome, task: TaskResult, place: Place, store: Store) -> None:
    """Say why a step failed: what it recorded itself comes before what its log ends with."""
    from airflow_mlops.cli.embedded import tail_of_failure

    failure_class, message = _last_failure(place, store)
    if failure_class == "stopped":
        step.state, step.error = "stopped", message
        return
    reason = ""
    if task.log_path is not None:
        step.tail = _own_lines(task.log_path)
        _, reason = tail_of_failure(task.log_path, 0)
    step.error = message or plain_reason(reason, task.task_id) or "it left no log"


def why_again(folder: Path, task_id: str, map_index: int) -> str:
    """Why the last try of a step failed, by its log, in one line, or where to look if its log does not say."""
    from airflow_mlops.cli.embedded import tail_of_failure, task_logs

    logs = [path for task, index, _, path in task_logs(folder) if (task, index) == (task_id, map_index)]
    reason = plain_reason(tail_of_failure(logs[-1], 1)[1], task_id) if logs else ""
    return shortened(reason, _REASON) or f"its process ended before it could say why; see {folder / 'airflow.log'}"


def plain_reason(text: str, step: str) -> str:
    """The reason that a log ends with, without the names of exception and failure class, which stand in front."""
    return without_step(_CLASSES.sub("", text), step)


def _own_lines(log: Path) -> list[str]:
    """The last lines of a log that are the step's own: what its program printed, which its operator logs."""
    from airflow_mlops.cli.embedded import is_own, read_log

    own: deque[str] = deque(maxlen=_TAIL)
    for line in read_log(log):
        if is_own(line):
            own.extend(line.event.splitlines())
    return list(own)


def _last_failure(place: Place, store: Store) -> tuple[str, str | None]:
    """Class and message of the last failure that a step recorded."""
    from airflow_mlops.artifacts import all_generations

    for generation in all_generations(store, place):
        records = {}
        for key in store.list(generation.generation_key):
            number = key.rpartition("/")[2].removeprefix("failure-").removesuffix(".json")
            if number.isdigit():
                records[int(number)] = key
        if records:
            return _failure(store.read(records[max(records)], _FAILURE_LIMIT), place.step)
    return "", None


def _failure(data: bytes, step: str) -> tuple[str, str | None]:
    try:
        record = json.loads(data)
    except ValueError:
        return "", None
    if not isinstance(record, Mapping) or not isinstance(record.get("message"), str):
        return "", None
    return str(record.get("class")), without_step(record["message"], step)


def without_step(message: str, step: str) -> str:
    """A message of a step without the step's name in front, where that is said already."""
    return message.removeprefix(f"step '{step}': ").removeprefix(f"step '{step}' ")


def _step_document(step: StepOutcome) -> dict[str, Any]:
    return {
        "state": step.state,
        "seconds": _rounded(step.seconds),
        "tries": step.tries,
        "metrics": step.metrics,
        "parameters": step.parameters,
        "artifacts": {
            name: {"uri": item.uri, "digest": item.digest, "size": item.size, "type": item.type}
            for name, item in step.artifacts.items()
        },
        "error": step.error,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
