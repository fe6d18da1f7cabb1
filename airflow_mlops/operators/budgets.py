# SPDX-License-Identifier: Apache-2.0
"""
Which failure is worth another try: every failure class has a budget of its own.

Airflow's ``retries`` is only a ceiling. Each failed try leaves a record beside the generation's claims; when a class has used its budget
up, or no retry can cure it, the task is failed for good.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_mlops.artifacts import ArtifactError, DocumentInvalid, NotFound
from airflow_mlops.artifacts.generations import first_try
from airflow_mlops.operators.failures import InfrastructureFailure, StepFailure
from airflow_mlops.operators.logs import masked
from airflow_mlops.spec.templates import TemplateError

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Place, Store
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator

_RECORD_LIMIT = 64 * 1024


def settle(
    failure: StepFailure, operator: StepOperator, attempt: Attempt | None, ti: Any, cause: BaseException | None = None
) -> NoReturn:
    """
    Raise a failure in the form that makes Airflow do what the budgets say.

    :param attempt: where the failure is recorded; without one, as when the store cannot be reached, every try since the last clear counts
    :param ti: the task instance of the template context
    :raises StepFailure: if another try is worth it, or costs nothing
    :raises AirflowFailException: if not
    """
    if attempt is not None and (message := masked(str(failure), attempt.secret_values)) != str(failure):
        # What its program chose, such as a file's name, may hold a secret, and what is chained to it says it again. Airflow masks its log alone.
        failure, cause = type(failure)(message), None
    headline = f"{failure.failure_class}: {failure}"
    if failure.free:
        failure.settled = True
        raise failure
    if failure.budget is None:
        raise AirflowFailException(f"{headline} (not retried: a retry could not cure it)") from _below(cause or failure)
    allowance = operator.step_retries if failure.budget == "retries" else operator.infra_retries
    used = _tries(operator, ti) if attempt is None else _record_and_count(failure, attempt)
    if used > allowance:
        raise AirflowFailException(f"{headline} (no retry left: {failure.budget} is {allowance})") from _below(
            cause or failure
        )
    settled = type(failure)(f"{headline} (retry {used} of {allowance})")
    settled.settled = True
    raise settled from _below(cause or failure)


def _below(failure: BaseException | None) -> BaseException | None:
    """
    What a failure was made of. Failures of our own have said in the headline all that they know: the lines of this package where they were
    raised would stand below it as the end of the task's log.
    """
    while isinstance(failure, (StepFailure, ArtifactError, TemplateError)):
        failure = failure.__cause__
    return failure


def has_failed(store: Store, place: Place, try_number: int) -> bool:
    """
    Whether a try has recorded that its program failed, so that nothing of it is worth going on with.

    :raises StoreFailed: if the store cannot be read, which says nothing
    """
    try:
        record = json.loads(store.read(f"{place.generation_key}/failure-{try_number}.json", _RECORD_LIMIT))
    except NotFound:
        return False
    except (DocumentInvalid, ValueError):
        return True  # it failed, and what it wrote of that cannot be read
    return not isinstance(record, dict) or record.get("class") != InfrastructureFailure.failure_class


def _tries(operator: StepOperator, ti: Any) -> int:
    """Tries since the task was scheduled or cleared, this one included, as far as Airflow's own numbers tell."""
    return int(ti.try_number) - first_try(ti.max_tries, operator.retries or 0, ti.try_number) + 1


def _record_and_count(failure: StepFailure, attempt: Attempt) -> int:
    """Failures of the same budget in this generation, this one included."""
    store, folder = attempt.store, attempt.identity.place.generation_key
    own = f"{folder}/failure-{attempt.identity.try_number}.json"
    record = {"version": 1, "class": failure.failure_class, "budget": failure.budget, "message": str(failure)[:2000]}
    try:
        store.put_if_absent(own, json.dumps(record, sort_keys=True).encode())
        records = [json.loads(store.read(key, _RECORD_LIMIT)) for key in store.list(folder) if _is_record(key)]
    except (ArtifactError, OSError, ValueError):
        return attempt.identity.try_number - attempt.identity.generation + 1
    return sum(1 for other in records if other.get("budget") == failure.budget)


def _is_record(key: str) -> bool:
    return key.rsplit("/", 1)[-1].startswith("failure-")
