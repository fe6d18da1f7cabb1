# SPDX-License-Identifier: Apache-2.0
"""
Why a step failed: one exception class a failure class, so that retry rules and alerts can match on them.

``retryable`` says whether another try can cure it; ``budget`` names the counter it is charged to.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowException

Budget = Literal["retries", "infra_retries"]


class StepFailure(AirflowException):
    """A step ended without a commit; the message says where, what and what to do."""

    failure_class: ClassVar[str] = "failure"
    budget: ClassVar[Budget | None] = None
    """The budget that pays for another try; ``None`` when no retry can cure it."""

    free: ClassVar[bool] = False
    """Whether another try follows that costs no budget."""

    settled = False
    """Whether the budgets have been asked, and have said that another try is worth it."""


class ProgramFailed(StepFailure):
    """The user's program ended with a non-zero exit code."""

    failure_class = "user-code"
    budget = "retries"


class OutOfMemory(StepFailure):
    """The program was killed because it used more memory than the step may."""

    failure_class = "out-of-memory"
    budget = "retries"


class StepTimeout(StepFailure):
    """The program ran longer than the step's timeout."""

    failure_class = "timeout"
    budget: ClassVar[Budget | None] = "retries"

    @classmethod
    def after(cls, task_id: str, timeout: timedelta | None) -> StepTimeout:
        """The failure of a step whose program was stopped after its timeout."""
        seconds = timeout.total_seconds() if timeout is not None else 0
        return cls(
            f"step '{task_id}' ran longer than its timeout of {seconds:g} s and was stopped; give it more time with timeout"
        )

    @classmethod
    def by_airflow(cls, task_id: str, timeout: timedelta | None) -> StepTimeout:
        """The failure of a step that Airflow has given no more time."""
        seconds = timeout.total_seconds() if timeout is not None else 0
        return cls(f"step '{task_id}' took longer than its execution_timeout of {seconds:g} s and was stopped")


class Unanswered(StepTimeout):
    """Nobody has answered an approval in time. To ask again is for a person to decide."""

    budget = None


class OutputsRefused(StepFailure):
    """The program ended well, but a declared output is missing or not what was declared."""

    failure_class = "outputs"
    budget = "retries"


class CannotStart(StepFailure):
    """The program cannot be started at all: no such image, no such command. No retry can cure that."""

    failure_class = "cannot-start"


class BadStep(StepFailure):
    """The step cannot be resolved: a template, an input or a setting is wrong. No retry can cure that."""

    failure_class = "bad-step"


class PolicyViolation(StepFailure):
    """The step asks for something that this deployment does not allow."""

    failure_class = "policy"


class GateClosed(StepFailure):
    """A condition of a gate does not hold. Whatever was measured would be the same in another try."""

    failure_class = "gate-closed"


class Rejected(StepFailure):
    """Somebody has rejected what an approval asked for."""

    failure_class = "rejected"


class Overtaken(StepFailure):
    """An alias points to another version than the one that a model was compared with. Whether it is better than that is for the gate to say."""

    failure_class = "overtaken"


class NoWinner(StepFailure):
    """No candidate of a pick has a number to be compared by."""

    failure_class = "no-winner"


class Superseded(StepFailure):
    """Another task instance owns the generation; whatever this one did would not count."""

    failure_class = "superseded"


class Unforeseen(StepFailure):
    """An error that belongs to no class: a defect of this package, or of something below it."""

    failure_class = "unforeseen"


class InfrastructureFailure(StepFailure):
    """The daemon, the store or the worker failed, not the program."""

    failure_class = "infrastructure"
    budget = "infra_retries"


class ServiceAway(InfrastructureFailure):
    """What runs the program does not answer; the program may go on."""


class StepStopped(StepFailure):
    """Airflow asked for the step to be stopped, and it was."""

    failure_class = "stopped"
    budget = "infra_retries"


class StepDetached(StepFailure):
    """The worker shut down and left the step's program to the next try."""

    failure_class = "detached"
    free = True
