# SPDX-License-Identifier: Apache-2.0
"""
``gate``: conditions over what other steps found out, between a trained model and whoever would use it.

It runs no program. What it found is committed before it opens or closes, so that the reason outlives the log, and a try that follows a lost
worker says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_mlops.operators.failures import BadStep, GateClosed
from airflow_mlops.operators.model_inputs import compared_with, models_read, with_optional_models
from airflow_mlops.operators.preparation import wires_of
from airflow_mlops.operators.references import ReferenceOperator
from airflow_mlops.spec.gates import PARAMS
from airflow_mlops.spec.verdicts import as_document, told

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.spec.conditions import Condition, Verdict
    from airflow_mlops.spec.parts import NoChampion, OnFail


class GateOperator(ReferenceOperator):
    """
    Let a run go on only if conditions hold.

    :param require: conditions in CEL (https://cel.dev) over the names of ``inputs`` and ``params`` (the names of ``parameters``):
        ``["m.accuracy >= 0.93"]``. Whatever is missing, not finite or cannot be evaluated keeps the gate closed
    :param no_champion: what a condition says that reads a registered model by an alias (``inputs={"champion": "models:churn@champion"}``), while
        there is none: ``open``: it holds, ``close``: it does not. A gate that reads one needs it
    :param on_fail: what a closed gate does: ``fail`` fails the task, without retries; ``skip`` skips it, and what comes after
    :raises BadStep: if a condition is none
    """

    kind: ClassVar[str] = "gate"
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        require: Sequence[str],
        on_fail: OnFail = "fail",
        no_champion: NoChampion | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "inputs": with_optional_models(kwargs.get("inputs"))})
        if on_fail not in ("fail", "skip"):
            raise BadStep(f"step '{self.task_id}': on_fail is {on_fail!r}; expected 'fail' or 'skip'")
        if no_champion not in ("open", "close", None):
            raise BadStep(f"step '{self.task_id}': no_champion is {no_champion!r}; expected 'open' or 'close'")
        self.no_champion = no_champion
        self.require = list(require)
        self.on_fail = on_fail
        if self.program is None:  # a spec's were looked at when it was read
            self._conditions()
            if no_champion is None and (aliases := [model for model in models_read(self).values() if "@" in model]):
                raise BadStep(
                    f"step '{self.task_id}' reads {aliases[0]}, which there is not before the first model has it; "
                    "expected no_champion='open' or no_champion='close'"
                )

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """Look at every condition, whatever the others said."""
        from airflow_mlops.operators.measures import values_of

        values = {PARAMS: names["params"], **values_of(attempt, wires_of(self))}
        absent = {name: model for name, model in models_read(self).items() if name not in values}
        found = [as_document(self._look(condition, values, absent)) for condition in self._conditions()]
        for verdict in found:
            self.log.info("%s: %s", "Holds" if verdict["holds"] else "Does not hold", told(verdict))
        read = {name: item.metadata.get("version") for name, item in attempt.resolved.artifacts.items()}
        versions = {name: number for name, number in read.items() if isinstance(number, int)}
        verdict = {"passed": all(one["holds"] for one in found), "conditions": found}
        return {}, {**verdict, **({"versions": versions} if versions else {}), **compared_with(self, attempt)}

    def _look(self, condition: Condition, values: Mapping[str, Any], absent: Mapping[str, str]) -> Verdict:
        from airflow_mlops.spec.conditions import Verdict

        # Whether a model that there is not yet is better than a candidate, is for the author of the gate to say.
        for name in sorted(condition.names & absent.keys()):
            return Verdict(condition.text, self.no_champion == "open", {}, f"there is no {absent[name]} yet")
        return condition.look(values)

    def conclude(self, reference: Mapping[str, Any]) -> None:
        """
        Open, or do not.

        :raises GateClosed: if it is closed, and that is to fail the run
        :raises AirflowSkipException: if it is closed, and that is to skip what comes after
        """
        parameters = reference["parameters"]
        if parameters["passed"] is True:
            return
        failed = "; ".join(told(verdict) for verdict in parameters["conditions"] if not verdict["holds"])
        message = f"step '{self.task_id}' is closed, since this does not hold: {failed}"
        if self.on_fail == "skip":
            raise AirflowSkipException(message)
        raise GateClosed(message)

    def _conditions(self) -> list[Condition]:
        from airflow_mlops.operators.conditional import parsed

        if not self.require:
            raise BadStep(f"step '{self.task_id}' requires nothing; expected require=['m.accuracy >= 0.93']")
        return parsed(self, self.require, "a condition is none")
