# SPDX-License-Identifier: Apache-2.0
"""What a spec says a step runs, before and after its templates are rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Program:
    """
    The templates of a spec's step. They are kept out of Airflow's template fields, which would let them read variables and connections.

    :param image: image of the container
    :param command: the program and its first arguments; replaces the image's entry point
    :param args: further arguments
    :param env: environment variables
    :param params: names of the pipeline parameters that the step gets
    :param inputs: inputs by name
    """

    image: str | None = None
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    params: Sequence[str] = ()
    inputs: Mapping[str, StepInput | ModelInput] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepInput:
    """
    An input of a step: an output of another task of the same run.

    :param task_id: the task that makes it
    :param output: the output's name there
    :param optional: whether the step runs without it, when the other task was skipped
    :param stage: ``copy`` puts the artifact beside the program, ``none`` gives it the URI alone
    """

    task_id: str
    output: str
    optional: bool = False
    stage: str = "copy"

    def __str__(self) -> str:
        return f"{self.task_id}.{self.output}"


@dataclass(frozen=True, slots=True)
class ModelInput:
    """
    An input of a step: a registered model.

    :param reference: ``models:name@alias`` or ``models:name/3``; which version that is, is looked up when the step begins
    :param optional: whether the step runs without it, when there is none yet
    :param stage: ``copy`` puts the model beside the program, ``none`` gives it the URI alone
    """

    reference: str
    optional: bool = False
    stage: str = "copy"

    def __str__(self) -> str:
        return self.reference


@dataclass(frozen=True, slots=True)
class Invocation:
    """
    A program as it is started: everything rendered, nothing left to decide.

    :param environment: all variables, the contract's among them, secrets not
    :param secret_environment: variables that must be shown nowhere
    :param working_directory: as the program sees it
    """

    image: str | None
    command: Sequence[str]
    args: Sequence[str]
    environment: Mapping[str, str]
    secret_environment: Mapping[str, str]
    working_directory: str | None
    timeout: timedelta | None

    @property
    def argv(self) -> list[str]:
        return [*self.command, *self.args]

    def texts(self) -> Iterator[tuple[str, str]]:
        """All that the program is given as text, and what to call it."""
        yield from {**self.environment, **self.secret_environment}.items()
        yield from ((f"argument {index}", word) for index, word in enumerate(self.argv))
