# SPDX-License-Identifier: Apache-2.0
"""What would be refused of a spec's pods: by a worker, by what the deployment allows, and by an API server that is asked without creating them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.planning import as_written
from airflow_mlops.cli.pods import sketch
from airflow_mlops.operators.failures import BadStep, PolicyViolation, ServiceAway, StepFailure
from airflow_mlops.operators.kubernetes_connection import CONNECTION_KEYWORDS
from airflow_mlops.operators.kubernetes_making import connect
from airflow_mlops.operators.kubernetes_patch import touched
from airflow_mlops.operators.kubernetes_pod import MERGED_BY, VOLUME
from airflow_mlops.operators.kubernetes_request import PARTS, as_manifest, no_such_field, unknown_fields
from airflow_mlops.operators.policy import check_runtime
from airflow_mlops.operators.policy_pods import checks_of
from airflow_mlops.spec.documents import KEY
from airflow_mlops.spec.problems import SpecError

if TYPE_CHECKING:
    from airflow_mlops.cli.pods import Sketch
    from airflow_mlops.operators.kubernetes_api import Pods
    from airflow_mlops.operators.settings import Settings
    from airflow_mlops.spec import Pipeline, Problem

Found = tuple[tuple[Any, ...], str]
"""Where below a step something is wrong, and what."""


class Server:
    """
    The API server of the cluster that this machine knows, asked about one pod after the other until it does not answer.

    :ivar names: of the servers that have answered
    :ivar assumed: what of the pods that they were asked about is not set here, in words
    :ivar silent: why one did not answer
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.assumed: dict[str, None] = {}
        self.silent: str | None = None
        self._clients: dict[tuple[Any, ...], Pods] = {}

    def objection(self, drawn: Sketch) -> str | None:
        """What it has against a pod; ``None`` if nothing, or nothing that is known."""
        if self.silent is not None:
            return None
        where = "the cluster that is known here"
        try:
            pods = self._pods_of(drawn)
            where = pods.core.api_client.configuration.host
            pod = drawn.pod()
            pod.metadata.namespace = pods.namespace
            said = pods.objection(pod)
        except ServiceAway as error:
            self.silent = f"the Kubernetes API server at {where} cannot be asked: {error}"
            return None
        except BadStep as error:  # no cluster, or no such connection
            self.silent = str(error)
            return None
        self.names.add(where)
        self.assumed.update(dict.fromkeys(drawn.notes))
        if said is None:
            return None
        return f"the Kubernetes API server refuses its pod in namespace '{pods.namespace}': {said}"

    def _pods_of(self, drawn: Sketch) -> Pods:
        """The client for a pod, made once for all of a namespace: credentials may be those of a program that takes its time."""
        keywords = drawn.operator.pod_keywords
        key = tuple(keywords.get(name) for name in (*CONNECTION_KEYWORDS, "namespace"))
        if key not in self._clients:
            self._clients[key] = connect(drawn.operator, drawn.attempt, 0)
        return self._clients[key]

    def close(self) -> None:
        """Close the connections."""
        for pods in self._clients.values():
            pods.close()


def problems_of(pipeline: Pipeline, settings: Settings, server: Server | None = None) -> list[Problem]:
    """
    What is wrong with the pods of a spec that was found good.

    :param server: asked about those that nothing else is wrong with
    """
    from airflow_mlops.factory.pipelines import build_dag

    try:
        dag = build_dag(pipeline)
    except SpecError as error:
        return list(error.problems)
    values = {name: param.default for name, param in pipeline.params.items() if param.has_default}
    # What steps have from 'defaults' is said once, where it is written.
    problems: dict[tuple[int, int, str], Problem] = {}
    for step in pipeline.programs("kubernetes"):
        who = f"step '{step.task_id}'"
        drawn = sketch(pipeline, as_written(pipeline, step), dag, settings, values)
        found = [*_problems_here(drawn)]
        if not found and server is not None and (said := server.objection(drawn)) is not None:
            found = [((), f"{who}: {said}")]
        for keys, message in found:
            problem = pipeline.problem(step, keys, drawn.stand_ins.shown(message))
            problems.setdefault((problem.line, problem.column, problem.message.replace(who, "")), problem)
    return list(problems.values())


def _problems_here(drawn: Sketch) -> Iterator[Found]:
    """What a worker would refuse."""
    operator = drawn.operator
    try:
        check_runtime(operator, drawn.attempt.settings)
    except PolicyViolation as error:
        yield ("runtime",), str(error)
    if problems := [*touched(operator)]:
        yield from ((("pod", KEY), f"step '{operator.task_id}': {problem}") for problem in problems)
        return
    try:
        manifest = drawn.manifest()
        if unknown := [*_unknown(drawn, manifest)]:
            yield from unknown
            return
        pod = as_manifest(drawn.pod())
    except StepFailure as error:
        yield _main_key(drawn), str(error)
        return
    for path, check in checks_of(operator, drawn.attempt.settings, pod):
        try:
            check()
        except PolicyViolation as error:
            yield _asked_for_at(drawn, pod, path), str(error)


def _asked_for_at(drawn: Sketch, pod: dict[str, Any], path: Sequence[str | int]) -> tuple[Any, ...]:
    """Where a step asks for something that is in its pod."""
    if path == ("metadata", "namespace"):
        return ("kubernetes", "namespace")
    if len(path) > 1 and isinstance(path[-1], int):
        name = pod["spec"][path[1]][path[-1]]["name"]
        number = name.removeprefix(VOLUME)
        if name != number and number.isdigit():
            return ("volumes", int(number))
        if len(written := _written_at(drawn.operator.pod or {}, pod, path)) > 1:
            return written
    return _main_key(drawn)


def _unknown(drawn: Sketch, manifest: dict[str, Any]) -> Iterator[Found]:
    try:
        paths = unknown_fields(manifest, drawn.operator.pod_keywords)
    except (TypeError, ValueError, AttributeError):
        return  # of the wrong form, which a worker's own way of making the pod says
    for path in paths:
        yield (*_written_at(drawn.operator.pod or {}, manifest, path), KEY), no_such_field(drawn.operator, path)


def _written_at(patch: Any, manifest: Any, path: Sequence[str | int]) -> tuple[Any, ...]:
    """Where in a step a field of its manifest was written: lists that were merged have the item elsewhere."""
    keys: list[str | int] = ["pod"]
    name: str | int = ""
    for part in path:
        here = part
        by = MERGED_BY.get(str(name))
        if isinstance(part, int) and by is not None and isinstance(patch, list):
            wanted = manifest[part].get(by)
            same = [index for index, item in enumerate(patch) if isinstance(item, Mapping) and item.get(by) == wanted]
            here = same[0] if same else len(patch)
        inside = patch[here] if _has(patch, here) else None
        if inside is None:
            return _by_keyword(path)
        keys.append(here)
        patch, manifest, name = inside, manifest[part], part
    return tuple(keys)


def _has(value: Any, part: str | int) -> bool:
    return part in value if isinstance(value, Mapping) else isinstance(value, list) and int(part) < len(value)


def _by_keyword(path: Sequence[str | int]) -> tuple[Any, ...]:
    """Where a field was written that 'pod' does not hold: in a keyword that is a part of the pod."""
    keywords = {("spec", field): name for name, field in PARTS.items()} | {
        ("spec", "securityContext"): "security_context",
        ("spec", "containers", 0, "securityContext"): "container_security_context",
    }
    for part, name in keywords.items():
        if tuple(path[: len(part)]) == part:
            return ("kubernetes", name, *path[len(part) :])
    return ("pod",)


def _main_key(drawn: Sketch) -> tuple[Any, ...]:
    """Where a step says the most of its pod."""
    if drawn.operator.pod:
        return ("pod", KEY)
    return ("kubernetes", KEY) if drawn.operator.pod_keywords else ()
