# SPDX-License-Identifier: Apache-2.0
"""
``approve``: a person decides whether a run goes on.

Airflow asks, by its own operator: the form, who may answer, the timeout and the wait, which holds no worker, are Airflow's. Here is what is
asked, and what follows. The answer is committed before anything follows from it, so that it outlives the log, and a try that follows a lost
worker says the same and asks nobody again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_mlops.operators.base import checked
from airflow_mlops.operators.failures import BadStep, InfrastructureFailure, Rejected, Unanswered
from airflow_mlops.operators.model_inputs import compared_with, models_read, with_optional_models
from airflow_mlops.operators.references import ReferenceOperator, run_inner
from airflow_mlops.operators.version_compat import deferral_failed
from airflow_mlops.spec.gates import PARAMS
from airflow_mlops.spec.parts import Assignee
from airflow_mlops.spec.verdicts import answer_told, as_document, told

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.question import Numbers, Thing
    from airflow_mlops.operators.resolve import ResolvedInputs
    from airflow_mlops.spec.conditions import Condition
    from airflow_mlops.spec.parts import Answer, OnFail

APPROVE, REJECT = "Approve", "Reject"
"""The words of Airflow's own approval, by which its pages know one."""

_OPTIONS: dict[Answer, str] = {"approve": APPROVE, "reject": REJECT}

NOTE = "note"
"""Field of the form for a word about the decision."""

MAX_NOTE = 1000
"""Characters of it that are kept."""


class ApproveOperator(ReferenceOperator):
    """
    Have a person decide whether a run goes on, with Airflow's own approval.

    Metrics among the inputs are shown side by side, the first ones to the left, with those of registered models (``models:churn@champion``) to
    the right of them; parameters and artifacts are listed. A registered model that there is not yet is no obstacle; it is told.

    :param subject: the question; default ``Approve <DAG>: <task>?`` (templated)
    :param assignees: who may answer, by the id that Airflow's auth manager has for them: ``["ada", {"id": "7", "name": "Grace"}]``; default:
        whoever may answer for this DAG in Airflow
    :param step_timeout: how long an answer is waited for; default: for ever
    :param default: ``approve`` or ``reject``, the answer when nobody has given one in that time; without it, the task fails then
    :param on_reject: what a rejection does: ``fail`` fails the task, without retries; ``skip`` skips it, and what comes after
    :param when: ask only if this condition holds, in CEL over the names of ``inputs`` and ``params`` (the names of ``parameters``):
        ``"params.ask == true"``. If it does not hold for certain, nobody is asked, and the run goes on
    :raises BadStep: if these do not fit together
    """

    kind: ClassVar[str] = "approve"
    template_fields: Sequence[str] = (*ReferenceOperator.template_fields, "subject")
    ui_color = "#f5e6f7"

    def __init__(
        self,
        *,
        subject: str | None = None,
        assignees: Sequence[str | Mapping[str, str] | Assignee] | None = None,
        default: Answer | None = None,
        on_reject: OnFail = "fail",
        when: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "inputs": with_optional_models(kwargs.get("inputs"))})
        # A spec's is a template of ours, which Airflow must not render; it gets the result to show.
        self.subject = subject if self.program is None else None
        self.subject_of_spec = None if self.program is None else subject
        self.assignees = [checked("assignees", Assignee, one) for one in assignees or ()]
        self.default = default
        self.on_reject = on_reject
        self.when = when
        self._doubt = ""
        self._check()

    def _check(self) -> None:
        if self.on_reject not in ("fail", "skip"):
            raise BadStep(f"step '{self.task_id}': on_reject is {self.on_reject!r}; expected 'fail' or 'skip'")
        if self.default not in (None, "approve", "reject"):
            raise BadStep(f"step '{self.task_id}': default is {self.default!r}; expected 'approve' or 'reject'")
        if self.default is not None and self.step_timeout is None:
            raise BadStep(
                f"step '{self.task_id}' has a default, which is the answer after its step_timeout; expected a step_timeout, too"
            )
        if self.program is None:  # a spec's was looked at when it was read
            self._condition()

    def look_up(self, context: Any, attempt: Attempt) -> ResolvedInputs:
        """What the inputs are, or what this try has shown of them when it asked."""
        from airflow_mlops.operators.asked import shown_inputs

        return shown_inputs(attempt) or super().look_up(context, attempt)

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """Ask, or be back with the answer, or find that there is nothing to ask."""
        resumed = context.get("mlops_resume")
        if resumed is not None:
            answer = self._answer(resumed, context)
        else:
            found = self._not_asked(names, attempt)
            answer = found if found is not None else self._ask(context, names, attempt)
        said = answer_told(answer)
        self.log.info("%s", said[0].upper() + said[1:])
        return {}, {**answer, **compared_with(self, attempt)}

    def conclude(self, reference: Mapping[str, Any]) -> None:
        """
        Let the run go on, or do not.

        :raises Unanswered: if nobody answered in time, and nothing is to be taken for an answer then
        :raises Rejected: if the answer was no, and that is to fail the run
        :raises AirflowSkipException: if it was, and that is to skip what comes after
        """
        answer = reference["parameters"]
        if answer["approved"] is True:
            return
        message = f"step '{self.task_id}' was {answer_told(answer)}"
        if answer["approved"] is None:
            raise Unanswered(
                f"step '{self.task_id}': {answer_told(answer)}; clear it to ask again, mark it as success to let the run go on"
            )
        if self.on_reject == "skip":
            raise AirflowSkipException(message)
        raise Rejected(message)

    def _not_asked(self, names: Mapping[str, Any], attempt: Attempt) -> dict[str, Any] | None:
        """The answer where the condition does not hold; what is not certain is for a person to look at."""
        condition = self._condition()
        if condition is None:
            return None
        from airflow_mlops.operators.measures import values_of

        wanted = {str(path[0]) for path in condition.paths}
        verdict = condition.look({PARAMS: names[PARAMS], **values_of(attempt, wanted - {PARAMS})})
        if verdict.why:
            self._doubt = f"It is not certain whether this holds: {told(as_document(verdict))}"
            self.log.info("Asks all the same. %s", self._doubt)
            return None
        if verdict.holds:
            return None
        return {"asked": False, "approved": True, "by": None, "at": None, "when": as_document(verdict)}

    def _ask(self, context: Any, names: Mapping[str, Any], attempt: Attempt) -> dict[str, Any]:
        """Have Airflow ask, which ends this process; the answer comes to another one."""
        from airflow_mlops.operators.asked import keep_shown
        from airflow_mlops.operators.preparation import rendered_text

        if self.subject_of_spec is not None:
            self.subject = rendered_text(self, self.subject_of_spec, names)
        identity = attempt.identity
        subject = self.subject or f"Approve {identity.dag_id}: {self.task_display_name}?"
        question = self._airflows_own(subject, self._body(names, attempt))
        keep_shown(attempt)
        self.log.info("Asks: %s", subject)
        return self._read(run_inner(question, context))

    def _answer(self, resumed: tuple[str, dict[str, Any] | None], context: Any) -> dict[str, Any]:
        """
        What became of the question, as Airflow's operator makes it of what it is resumed with.

        :raises InfrastructureFailure: if the wait for an answer has failed
        :raises BadStep: if the answer is none to this question
        """
        from airflow.providers.standard.exceptions import HITLTimeoutError, HITLTriggerEventError

        try:
            return self._read(self._airflows_own("", None).resume_execution(*resumed, context))
        except HITLTimeoutError:
            return {"asked": True, "approved": None, "by": None, "at": None, "timed_out": True}
        except deferral_failed() as error:
            raise InfrastructureFailure(f"step '{self.task_id}': the wait for an answer failed: {error}") from error
        except (HITLTriggerEventError, ValueError) as error:
            raise self._no_answer(error) from error

    def _read(self, event: Mapping[str, Any]) -> dict[str, Any]:
        chosen = list(event["chosen_options"])
        if chosen not in ([APPROVE], [REJECT]):  # Airflow 3.1 takes both at once
            raise self._no_answer(chosen)
        user = event.get("responded_by_user") or {}
        answer = {
            "asked": True,
            "approved": chosen == [APPROVE],
            "by": user.get("name") or user.get("id"),
            "at": event["responded_at"].isoformat(),
        }
        if user.get("id") not in (None, answer["by"]):
            answer["by_id"] = user["id"]
        if not user:
            answer["timed_out"] = True
        if note := str((event.get("params_input") or {}).get(NOTE) or "").strip():
            answer[NOTE] = note[:MAX_NOTE]
        return answer

    def _no_answer(self, what: Any) -> BadStep:
        return BadStep(
            f"step '{self.task_id}' was answered with {what}; expected {APPROVE} or {REJECT}. Clear it to ask again"
        )

    def _airflows_own(self, subject: str, body: str | None) -> Any:
        """Airflow's operator for this question. Its approval would skip the tasks after this one by itself, and say so before it is committed."""
        from airflow.providers.common.compat.sdk import Param
        from airflow.providers.standard.operators.hitl import HITLOperator

        return HITLOperator(
            task_id=self.task_id,
            subject=subject,
            body=body,
            options=[APPROVE, REJECT],
            defaults=_OPTIONS[self.default] if self.default is not None else None,
            params={NOTE: Param(None, type=["null", "string"], title="Note", description="Kept with the answer")},
            assigned_users=[{"id": one.id, "name": one.name or one.id} for one in self.assignees] or None,
            response_timeout=self.step_timeout,
        )

    def _body(self, names: Mapping[str, Any], attempt: Attempt) -> str | None:
        from airflow_mlops.operators.question import body_of

        inputs = attempt.resolved
        absent = {name: model for name, model in models_read(self).items() if name not in inputs.artifacts}
        things = [_thing(name, one, attempt) for name, one in inputs.artifacts.items() if one.type != "metrics"]
        return body_of(self._numbers(attempt), {**names[PARAMS], **inputs.parameters}, things, absent, self._doubt)

    def _numbers(self, attempt: Attempt) -> list[Numbers]:
        """What is compared: what was measured in this run, the candidate first, then what was measured on registered models."""
        from airflow_mlops.operators.measures import values_of
        from airflow_mlops.operators.question import Numbers

        artifacts = attempt.resolved.artifacts
        measured = [name for name, one in artifacts.items() if one.type == "metrics"]
        registered = [name for name in models_read(self) if name in artifacts]
        values = values_of(attempt, [*measured, *registered])
        return [Numbers(name, values[name]) for name in (*measured, *registered)]

    def _condition(self) -> Condition | None:
        from airflow_mlops.operators.conditional import parsed

        return parsed(self, [self.when], "'when' is no condition")[0] if self.when is not None else None


def _thing(name: str, artifact: Artifact, attempt: Attempt) -> Thing:
    from airflow_mlops.artifacts import ReferenceRefused, origin_of
    from airflow_mlops.operators.links import PAGE, PAGES, query_of
    from airflow_mlops.operators.models import version_of
    from airflow_mlops.operators.question import Thing

    page = maker = ""
    try:
        origin = origin_of(attempt.store.key(artifact.uri))
    except ReferenceRefused:
        origin = None  # it was imported, and lies elsewhere
    if origin is not None:
        place, _ = origin
        page = f"{PAGES}/{PAGE}?{query_of(place, int(place.iteration) if place.iteration != '-' else -1)}"
        maker = place.step.replace(".", "/")
    return Thing(name, artifact.type, artifact.uri, artifact.digest, artifact.size, page, maker, version_of(artifact))
