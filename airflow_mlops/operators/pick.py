# SPDX-License-Identifier: Apache-2.0
"""
``pick``: the best of several by a number.

It runs no program and copies nothing: what it hands on are references to what the winner made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_mlops.operators.artifact_arg import ArtifactXComArg
from airflow_mlops.operators.base import StepOperator, checked
from airflow_mlops.operators.failures import BadStep, NoWinner
from airflow_mlops.operators.references import ReferenceOperator
from airflow_mlops.spec.graph import Candidate, Choice
from airflow_mlops.spec.parts import BestBy
from airflow_mlops.spec.picking import WINNER

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt


class PickOperator(ReferenceOperator):
    """
    Hand on what the best of several candidates made, and its name as output ``winner``.

    A candidate that was skipped, or whose number is missing or not finite, cannot win. Of several with the same number the first one does.

    :param by: the number that is compared: ``"max(metrics.auc)"``, or ``"min(loss)"`` for an output of type number
    :param candidates: what each of them made, under the same names: ``{"forest": {"metrics": check_forest.artifact("metrics"), "model":
        forest.artifact("model")}, "linear": …}``
    :param outputs: what is handed on, by name, with its type; default: whatever the candidates give as a step's output
    :param choice: what a spec says of the candidates, in their place
    :raises BadStep: if the candidates do not fit together
    """

    kind: ClassVar[str] = "pick"
    ui_color = "#e5f3e5"

    def __init__(
        self,
        *,
        by: str | BestBy,
        candidates: Mapping[str, Mapping[str, Any]] | None = None,
        outputs: Mapping[str, Any] | None = None,
        choice: Choice | None = None,
        **kwargs: Any,
    ) -> None:
        by = checked("by", BestBy, by)
        if choice is None:
            candidates = candidates or {}
            outputs = _outputs_of(candidates) if outputs is None else outputs
            choice = _choice_of(candidates, by, [name for name in outputs if name != WINNER])
            kwargs["inputs"] = {
                f"{name}.{made}": {"from": source, "optional": True, "stage": "none"}
                for name, values in candidates.items()
                for made, source in values.items()
            }
        kwargs.setdefault("trigger_rule", "none_failed")
        super().__init__(outputs={**(outputs or {}), WINNER: "string"}, **kwargs)
        self.by = by
        self.choice = choice

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """Compare the candidates and hand on what the best one made."""
        inputs = attempt.resolved
        if not inputs.artifacts and not inputs.parameters:
            raise AirflowSkipException(f"step '{self.task_id}' is skipped, since all its candidates were")
        compared = self._compared(attempt)
        best = max if self.by.max is not None else min
        able = [entry for entry in compared if entry["value"] is not None]
        if not able:
            reasons = "; ".join(f"{entry['name']}: {entry['why']}" for entry in compared)
            raise NoWinner(f"step '{self.task_id}' has no candidate with a number to compare: {reasons}")
        winner = best(able, key=lambda entry: entry["value"])["name"]
        for entry in compared:
            told = f"{self.by.path} = {entry['value']!r}" if entry["value"] is not None else entry["why"]
            self.log.info("%s %s: %s", "*" if entry["name"] == winner else " ", entry["name"], told)
        self.log.info("Picked %s by %s", winner, self.by)
        artifacts, parameters = self._handed_on(
            next(one for one in self.choice.candidates if one.name == winner), attempt
        )
        return artifacts, {**parameters, WINNER: winner, "compared": compared}

    def _compared(self, attempt: Attempt) -> list[dict[str, Any]]:
        """Each candidate with its number, or why it has none."""
        from airflow_mlops.operators.measures import values_of

        values = values_of(attempt, [candidate.measure for candidate in self.choice.candidates])
        compared = []
        for candidate in self.choice.candidates:
            value, why = self._number(values.get(candidate.measure))
            compared.append({"name": candidate.name, "value": value, **({"why": why} if why else {})})
        return compared

    def _number(self, value: Any) -> tuple[float | None, str]:
        key = self.choice.key
        if value is None:
            return None, "it was skipped"
        if key is not None:
            if not isinstance(value, Mapping) or key not in value:
                return None, f"it has no number {key}"
            value = value[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None, "it is no number"
        return (value, "") if math.isfinite(value) else (None, f"{value} is no finite number")

    def _handed_on(self, winner: Candidate, attempt: Attempt) -> tuple[dict[str, Artifact], dict[str, Any]]:
        inputs = attempt.resolved
        artifacts, parameters = {}, {}
        for name, source in winner.outputs.items():
            if source in inputs.artifacts:
                artifacts[name] = replace(inputs.artifacts[source], name=name)
            elif source in inputs.parameters:
                parameters[name] = inputs.parameters[source]
            else:
                raise BadStep(f"step '{self.task_id}': the winner, {winner.name}, did not make '{name}'")
        return artifacts, parameters


def _outputs_of(candidates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is handed on: what the first candidate gives as a step's output, with its type there."""
    found = {}
    first: Mapping[str, Any] = next(iter(candidates.values()), {})
    for name, source in first.items():
        if isinstance(source, ArtifactXComArg) and isinstance(source.operator, StepOperator):
            output = source.operator.outputs[source.output]
            found[name] = {"type": output.type, "file": output.file}
    return found


def _choice_of(candidates: Mapping[str, Mapping[str, Any]], by: BestBy, outputs: list[str]) -> Choice:
    """What a hand-written DAG says of the candidates."""
    measure, _, key = by.path.partition(".")
    if len(candidates) < 2:
        raise BadStep(f"candidates are {list(candidates)}; expected two or more, by name")
    for name, values in candidates.items():
        if lacking := [wanted for wanted in (measure, *outputs) if wanted not in values]:
            raise BadStep(f"candidate '{name}' has no {', '.join(lacking)}; it has {', '.join(values) or 'nothing'}")
    return Choice(
        tuple(
            Candidate(name, f"{name}.{measure}", {made: f"{name}.{made}" for made in outputs}) for name in candidates
        ),
        key or None,
    )
