# SPDX-License-Identifier: Apache-2.0
"""
The stages of a step's life, in order: claim, resolve, seal, run, collect, commit, publish.

:class:`~airflow_mlops.operators.base.StepOperator` calls :func:`live`; a runtime is called back to run the program. Loaded when a task
runs, never while a DAG file is parsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_mlops.artifacts import (
    AlreadyCommitted,
    ArtifactError,
    OutputInvalid,
    Replaced,
    StepReference,
    StoreFailed,
    find_committed,
    instance_id,
    new_attempt_id,
)
from airflow_mlops.operators import budgets, ownership, tracking
from airflow_mlops.operators.adoption import adopt, clean_up, clear_dead, clear_evidence, ensure_supervised
from airflow_mlops.operators.attempt import Attempt, Ended
from airflow_mlops.operators.failures import (
    BadStep,
    InfrastructureFailure,
    OutOfMemory,
    OutputsRefused,
    ProgramFailed,
    StepDetached,
    StepFailure,
    StepStopped,
    StepTimeout,
    Superseded,
    Unforeseen,
)
from airflow_mlops.operators.identity import TaskIdentity
from airflow_mlops.operators.keeping import keep, remember
from airflow_mlops.operators.models import version_of
from airflow_mlops.operators.policy import check_runtime
from airflow_mlops.operators.preparation import invocation_of, names_of, parameters_of, seal_of
from airflow_mlops.operators.publish import commit_outputs, commit_references
from airflow_mlops.operators.resolve import as_attributes
from airflow_mlops.operators.settings import load_settings
from airflow_mlops.operators.states import ensure_needed
from airflow_mlops.operators.version_compat import CONTROL_FLOW
from airflow_mlops.spec.model_names import NameRefused
from airflow_mlops.spec.quantities import format_bytes

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Seal
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.references import ReferenceOperator
    from airflow_mlops.operators.resolve import ResolvedInputs


T = TypeVar("T")


def live(operator: StepOperator, context: Any) -> dict[str, Any]:
    """
    Run a step from claim to commit.

    :return: the reference to what was committed, for XCom
    :raises StepFailure: if the step failed and another try is worth it
    :raises AirflowFailException: if no other try is
    """
    operator.began_at = started = operator.began_at or time.time()
    ensure_needed(operator, context)
    attempt = _guarded(lambda: begin(operator, context), operator, None, context)
    try:
        reference = _guarded(
            lambda: _owned(operator, attempt, lambda: _live(operator, context, attempt, started)),
            operator,
            attempt,
            context,
        )
    except TaskDeferred:
        # Its program goes on, and this try with it.
        raise
    except (InfrastructureFailure, StepDetached):
        # Another try follows. What goes on without us, or has ended well, is for that one to go on with.
        if not operator.lives_on():
            remember(operator, attempt)
            told = tracking.end(operator, context, attempt, "FAILED")
            _discard(operator, attempt)
            told()
        raise
    except BaseException as failure:
        remember(operator, attempt)
        told = tracking.end(operator, context, attempt, "KILLED" if operator._killed else "FAILED")
        if not keep(operator, attempt, failure):
            _discard(operator, attempt)
        told()
        raise
    else:
        told = tracking.end(operator, context, attempt, "FINISHED", reference)
        clean_up(operator, attempt, discard=False)
        operator.committed = attempt.identity.place
        told()
        return _announced(operator, context, reference)
    finally:
        operator._attempt = operator.began_at = None
        operator.let_go()


def live_by_reference(operator: ReferenceOperator, context: Any) -> dict[str, Any]:
    """
    The life of a step that runs no program: claim, resolve, produce, commit, publish.

    :return: the reference to what was committed, for XCom
    :raises StepFailure: if the step failed and another try is worth it
    :raises AirflowFailException: if no other try is
    """
    started = time.time()
    ensure_needed(operator, context)
    attempt = _guarded(lambda: begin(operator, context), operator, None, context)

    def stages() -> dict[str, Any]:
        attempt.inputs = inputs = attempt.inputs or operator.look_up(context, attempt)
        _say_versions(operator, inputs)
        parameters = parameters_of(operator, context)
        names = names_of(operator, context, attempt, inputs, parameters)
        seal = seal_of(operator, context, attempt, inputs, {**parameters, **inputs.parameters})
        artifacts, values = operator.produce(context, names, attempt)
        ownership.ensure_owner(attempt)
        return commit_references(attempt, seal, artifacts, values, kind=operator.kind, started=started)

    try:
        reference = _guarded(lambda: _owned(operator, attempt, stages), operator, attempt, context)
        _guarded(lambda: _concluded(operator, attempt, context, reference), operator, attempt, context)
        operator.committed = attempt.identity.place
        return _announced(operator, context, reference)
    finally:
        operator._attempt = None


def _concluded(operator: ReferenceOperator, attempt: Attempt, context: Any, reference: dict[str, Any]) -> None:
    """Have what was found take effect, and track it."""
    try:
        operator.conclude(reference)
    except StepFailure:
        tracking.tell(operator, context, attempt, "FAILED", reference)
        raise
    except AirflowSkipException:
        tracking.tell(operator, context, attempt, "FINISHED", reference)
        raise
    tracking.tell(operator, context, attempt, "FINISHED", reference)


def _announced(operator: StepOperator, context: Any, reference: dict[str, Any]) -> dict[str, Any]:
    """Tell Airflow's assets what was committed, and hand the reference on."""
    if any(output.asset for output in operator.outputs.values()):
        from airflow_mlops.operators.assets import announce

        announce(operator, context, reference)
    return reference


def begin(operator: StepOperator, context: Any) -> Attempt:
    """The attempt of this try: its identity and its paths. Nothing is made yet, so that a template can be rendered before anything exists."""
    if operator._attempt is None:
        settings = load_settings()
        store = settings.open_store()
        identity = TaskIdentity.of(
            context["ti"],
            context["dag_run"],
            instance=instance_id(store, settings.instance),
            retries=operator.retries or 0,
        )
        operator._attempt = Attempt.plan(identity.placed(store), store, settings, new_attempt_id())
    return operator._attempt


def names_for_author(operator: StepOperator, context: Any) -> dict[str, Any]:
    """
    Our names for the templates of a hand-written DAG, beside Airflow's own.

    :raises AirflowFailException: if an input does not resolve
    """

    def names() -> dict[str, Any]:
        attempt = begin(operator, context)
        attempt.inputs = operator.look_up(context, attempt)
        values = names_of(operator, context, attempt, attempt.inputs, {})
        return as_attributes({name: values[name] for name in ("inputs", "outputs", "run")})

    return _guarded(names, operator, None, context)


def rendered_by_airflow(operator: StepOperator, context: Any, render_it: Callable[[], T]) -> T:
    """
    Have Airflow render an author's template; one that does not render is not worth another try.

    :raises AirflowFailException: if it does not
    :raises InfrastructureFailure: if what it asks for cannot be reached
    """

    def stage() -> T:
        try:
            return render_it()
        except (StepFailure, ArtifactError, AirflowRuntimeError, OSError):
            raise
        except Exception as error:
            if isinstance(error, CONTROL_FLOW):
                raise
            raise BadStep(
                f"step '{operator.task_id}': a template cannot be rendered: {type(error).__name__}: {error}"
            ) from error

    return _guarded(stage, operator, None, context)


def _owned(operator: StepOperator, attempt: Attempt, stages: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Go through a step's stages as the owner of its generation; if that has a result already, or before these stages have, publish it."""
    ownership.take(attempt)
    if (done := _committed(operator, attempt)) is not None:
        _forget_earlier(operator, attempt)
        return done
    try:
        return stages()
    except AlreadyCommitted as lost:
        operator.log.warning("%s. Its result is published", lost)
        return StepReference.to(attempt.store.uri(attempt.identity.place.manifest_key), lost.winner).to_json()


def _live(operator: StepOperator, context: Any, attempt: Attempt, started: float) -> dict[str, Any]:
    check_runtime(operator, attempt.settings)
    inputs = attempt.inputs or operator.look_up(context, attempt)
    _say_versions(operator, inputs)
    parameters = {**parameters_of(operator, context), **inputs.parameters}

    def resolve() -> Seal:
        attempt.invocation = invocation_of(operator, context, attempt, inputs, parameters)
        return seal_of(operator, context, attempt, inputs, parameters)

    attempt.inputs = inputs
    seal = adopt(operator, attempt, inputs, resolve)
    if seal is None:
        if attempt.identity.try_number > attempt.identity.generation:
            clear_dead(operator, attempt)
        if operator.keep_failed and attempt.identity.try_number > 1:
            clear_evidence(attempt)
        tracked = tracking.begin(operator, context, attempt, parameters)
        attempt.make()
        operator.stage_files(attempt, inputs)
        attempt.tracked = tracked()
        seal = resolve()
        attempt.sealed = seal.to_bytes()
        attempt.step_json.write_bytes(attempt.sealed)
        attempt.store.put_if_absent(f"{attempt.key}/step.json", attempt.sealed)
        _log_start(operator, attempt)
    ended = _run(operator, attempt)
    _judge(operator, ended)
    ensure_supervised(attempt)
    ownership.ensure_owner(attempt)
    return commit_outputs(operator.outputs, attempt, seal, ended, kind=operator.kind, started=started, log=operator.log)


def _say_versions(operator: StepOperator, inputs: ResolvedInputs) -> None:
    """Log which versions registered models are."""
    for name, artifact in inputs.artifacts.items():
        if version := version_of(artifact):
            operator.log.info("Input %s is %s", name, version)


def _run(operator: StepOperator, attempt: Attempt) -> Ended:
    """Run the program; its checkpoint is kept however it ends, since the next try needs it most after a timeout."""
    try:
        ended = operator.run_program(attempt)
    except (StepFailure, AirflowTaskTimeout):
        try:
            operator.keep_checkpoint(attempt)
        except (ArtifactError, OSError) as error:
            operator.log.warning("The checkpoint could not be kept: %s", error)
        raise
    operator.keep_checkpoint(attempt)
    return ended


def _committed(operator: StepOperator, attempt: Attempt) -> dict[str, Any] | None:
    """The reference to what this generation has committed already, if it has."""
    found = find_committed(attempt.store, attempt.identity.place)
    if found is None:
        return None
    manifest, reference = found
    operator.log.info(
        "Attempt %s of try %s has committed already, and its worker ended before Airflow heard of it. That result is published; nothing runs",
        manifest.attempt,
        manifest.try_,
    )
    return reference.to_json()


def _forget_earlier(operator: StepOperator, attempt: Attempt) -> None:
    """See to it that what an earlier try committed is cleaned up after, although its worker died."""
    try:
        if (earlier := operator.clear_earlier(attempt)) is not None:
            attempt.become(earlier, adopted=True)
    except StepFailure as error:
        operator.log.warning("What an earlier try left behind stays: %s", error)


def _discard(operator: StepOperator, attempt: Attempt) -> None:
    """
    Remove what is left of the attempt, unless another try has it by now; what was committed stays. What the attempt failed with must not be
    hidden by this.
    """
    try:
        # It may have been stopped, or have failed, after its commit: the next try publishes that.
        committed = find_committed(attempt.store, attempt.identity.place)
    except (ArtifactError, OSError) as error:
        operator.log.warning("%s stays in the store: %s", attempt.store.uri(attempt.key), error)
        return
    clean_up(operator, attempt, discard=committed is None or committed[0].attempt != attempt.id)


def _judge(operator: StepOperator, ended: Ended) -> None:
    """
    Tell a good end from a bad one.

    :raises StepFailure: the subclass for how it ended
    """
    if ended.out_of_memory:
        limit = operator.step_resources.memory
        peak = f" (highest use that was seen: {format_bytes(ended.peak_memory)})" if ended.peak_memory else ""
        raise OutOfMemory(
            f"step '{operator.task_id}' was killed for using more memory than its limit of {format_bytes(limit) if limit else 'the host'}{peak}; "
            "give it more with resources.memory"
        )
    if operator._killed:
        raise StepStopped(f"step '{operator.task_id}' was stopped because Airflow asked for it")
    if ended.exit_code:
        raise ProgramFailed(f"step '{operator.task_id}': its program {_how_it_ended(ended.exit_code)}")


def _how_it_ended(exit_code: int) -> str:
    import signal

    number = -exit_code if exit_code < 0 else exit_code - 128
    if exit_code < 0 or exit_code > 128:
        try:
            return f"was ended by {signal.Signals(number).name} (exit code {exit_code})"
        except ValueError:
            pass
    return f"ended with exit code {exit_code}"


def _log_start(operator: StepOperator, attempt: Attempt) -> None:
    import shlex

    invocation = attempt.invocation
    assert invocation is not None  # noqa: S101 - made one line before
    what = shlex.join(invocation.argv) or "the image's own command"
    where = f" in {invocation.image}" if operator.runtime != "process" and invocation.image else ""
    operator.log.info("Attempt %s of %s runs %s%s", attempt.id, operator.task_id, what, where)


def _guarded(stage: Callable[[], T], operator: StepOperator, attempt: Attempt | None, context: Any) -> T:
    """
    Run a stage; make a failure of one class of whatever it raises, and let only those be retried that a retry can cure.

    Airflow's own control flow (skips, deferrals) passes through; its timeout of a task is a failure like ours.
    """

    def settle(failure: StepFailure, cause: BaseException | None = None) -> NoReturn:
        budgets.settle(failure, operator, attempt, context["ti"], cause)

    try:
        return stage()
    except StepFailure as error:
        if error.settled:  # by a stage within this one
            raise
        settle(error)
    except CONTROL_FLOW:
        raise
    except AirflowTaskTimeout as error:
        settle(StepTimeout.by_airflow(operator.task_id, operator.execution_timeout), error)
    except Exception as error:
        settle(_failure_of(error, operator.task_id), error)


_CLASSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[StepFailure]], ...] = (
    (Replaced, Superseded),
    (OutputInvalid, OutputsRefused),
    ((StoreFailed, OSError, AirflowRuntimeError), InfrastructureFailure),
    ((ArtifactError, NameRefused), BadStep),
)


def _failure_of(error: Exception, task_id: str) -> StepFailure:
    """The failure that an error is; the first class that fits."""
    for kind, failure in _CLASSES:
        if isinstance(error, kind):
            return failure(f"step '{task_id}': {error}")
    # Not a failure that anybody foresaw: trying again would hide it for as long as the budgets last.
    return Unforeseen(f"step '{task_id}' met an error nobody foresaw: {type(error).__name__}: {error}")
