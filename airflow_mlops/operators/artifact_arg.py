# SPDX-License-Identifier: Apache-2.0
"""``split.artifact("train")``: how a hand-written DAG wires one step's output to another step's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airflow_mlops.operators.failures import BadStep


@attrs.define
class ArtifactXComArg(PlainXComArg):
    """
    One output of a step, made by :meth:`StepOperator.artifact`.

    Airflow sees an ordinary reference to the step's XCom, so that it orders the tasks and finds the right map index.

    :param output: name of the output
    """

    output: str = ""

    def __str__(self) -> str:
        return f"{self.operator.task_id}.{self.output}"

    def __repr__(self) -> str:
        return f"{self.operator.task_id}.{self.output}"

    def __getitem__(self, item: Any) -> Any:
        """
        Not there: what is handed on is looked up when the task runs.

        :raises BadStep: always
        """
        raise BadStep(
            f"{self} has no [{item!r}] while the DAG is made; give {self} to a @task, which gets the value or the artifact's dictionary"
        )

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """
        Look the output up: for a step, the reference that it checks itself; for any other task, what a person would take it for, the value of a
        parameter, or an artifact's name, type, URI, digest and metadata. Of a mapped step it is a list of those.

        :raises BadStep: if the producer is mapped and the consumer a step, since one input takes one artifact; or if the producer is no step
        """
        from airflow_mlops.operators.base import StepOperator

        found = super().resolve(context)
        if isinstance(found, str | int | float):
            raise BadStep(
                f"what '{self.operator.task_id}' handed on is {str(found)[:80]!r}, and not the result of a step; expected the task of a step "
                "of airflow_mlops"
            )
        one = found is None or isinstance(found, Mapping)
        if not isinstance(context.get("task"), StepOperator):
            return self._value(found) if one else [self._value(reference) for reference in found]
        if not one:
            raise BadStep(
                f"'{self.operator.task_id}' ran as several mapped instances; an input takes one artifact: "
                "map the consumer over the same list inside one task group, so that each instance reads its own"
            )
        return ResolvedArgument(dict(found) if found is not None else None, self.operator.task_id, self.output)

    def _value(self, reference: Mapping[str, Any] | None) -> Any:
        """What another task than a step is given."""
        if reference is None:
            return None
        for outputs in (reference.get("parameters", {}), reference.get("artifacts", {})):
            if self.output in outputs:
                return outputs[self.output]
        raise BadStep(f"'{self.operator.task_id}' handed on no output '{self.output}'")


class ResolvedArgument:
    """A reference that was looked up: the producer's XCom and the output that is meant."""

    def __init__(self, reference: dict[str, Any] | None, task_id: str, output: str) -> None:
        self.reference = reference
        self.task_id = task_id
        self.output = output

    def __str__(self) -> str:
        return f"{self.task_id}.{self.output}"
