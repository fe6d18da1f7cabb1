# SPDX-License-Identifier: Apache-2.0
"""
Who answers what a run of one's own asks: the command line in advance, or whoever sits at the terminal.

A run that nobody could answer does not begin: it would wait for ever.
"""

from __future__ import annotations

import getpass
import os
import re
import select
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli import console as looks
from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from airflow_mlops.cli.embedded import Question, Reply
    from airflow_mlops.cli.progress import Progress
    from airflow_mlops.spec import Pipeline, Step

ALL = "all"
_OPTIONS = {"approve": "Approve", "reject": "Reject"}
_PAGE = re.compile(r"\[([^][]*)\]\(mlops/[^()]*\)")
"""A link to a page of a deployment's API server, which a run of one's own has none of."""


def in_advance(pipeline: Pipeline, approve: Sequence[str], reject: Sequence[str]) -> dict[str, str]:
    """
    The answers that were given before they were asked for, by task id. What is said of a step goes before what is said of all.

    :raises CommandError: if a step asks nothing, or is both approved and rejected
    """
    steps = {"/".join(step.path): step.task_id for step in _approvals(pipeline)}
    named: dict[str, str] = {}
    of_all: dict[str, str] = {}
    for option, words in (("approve", approve), ("reject", reject)):
        for word in words:
            where = of_all if word == ALL else named
            key = word if word == ALL else _task_of(word, option, steps)
            if where.setdefault(key, option) != option:
                raise CommandError(f"--approve {word} and --reject {word}: expected one of the two")
    every = dict.fromkeys(steps.values(), of_all[ALL]) if of_all else {}
    return {task: _OPTIONS[option] for task, option in {**every, **named}.items()}


def require_answers(pipeline: Pipeline, answers: Mapping[str, str], params: Mapping[str, Any]) -> None:
    """
    See to it that there is an answer to whatever will be asked, as far as that is known before the run.

    :raises CommandError: if nobody could answer
    """
    missing = [
        "/".join(step.path)
        for step in _approvals(pipeline)
        if step.task_id not in answers and _will_ask(pipeline, step, params)
    ]
    if missing:
        raise CommandError(
            f"{pipeline.file}: step '{missing[0]}' asks for an approval, and nobody is here to give it; expected a terminal, or "
            f"--approve {missing[0]} or --reject {missing[0]}{f' (as well for {chr(44).join(missing[1:])})' if missing[1:] else ''}"
        )


def can_prompt() -> bool:
    """Whether somebody sits at a terminal whose keyboard is ours."""
    from airflow_mlops.cli.embedded.terminal import terminal

    if os.environ.get("CI") or sys.stdin is None or not sys.stdin.isatty() or not terminal().isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False


class Answers:
    """
    The answers of a run.

    :param given: by task id
    :param prompt: asks whoever sits at the terminal; ``None`` if nobody does
    """

    def __init__(self, given: Mapping[str, str], prompt: Prompt | None) -> None:
        self._given = given
        self._prompt = prompt

    def reply(self, question: Question | None) -> Reply | None:
        """
        The answer to a question, if there is one by now; it is not waited for.

        :param question: ``None`` if there is none any more
        :raises CommandError: if nobody can answer it
        """
        from airflow_mlops.cli.embedded import Reply

        if question is not None and (option := self._given.get(question.task_id)) in question.options:
            return Reply(str(option), _user(), {"note": "given in advance on the command line"})
        if self._prompt is not None:
            return self._prompt.look(question)
        if question is None:
            return None
        step = question.task_id.replace(".", "/")
        raise CommandError(
            f"step '{step}' asks: {looks.printable(question.subject)} Nobody is here to answer; the run was stopped. "
            f"Expected a terminal, or --approve {step} or --reject {step}"
        )


class Prompt:
    """
    Asks on the terminal: shows a question once, and looks from time to time whether a line was typed.

    :param progress: the display, which stands still meanwhile
    """

    def __init__(self, progress: Progress) -> None:
        from airflow_mlops.cli.embedded.terminal import terminal

        self._progress = progress
        self._file = terminal()
        self._typed = b""
        self._asked: Question | None = None

    def look(self, question: Question | None) -> Reply | None:
        """Show what is new, and read what was typed."""
        if question != self._asked:
            self._turn_to(question)
        if question is None:
            return None
        for line in self._lines():
            reply = _read(line, question)
            if reply is not None:
                self._asked = None
                self._progress.resume()
                return reply
            self._say(f"expected {_choice(question)}\n{_prompt(question)}")
        return None

    def _turn_to(self, question: Question | None) -> None:
        if self._asked is not None:
            self._say("\nit was answered meanwhile, or its time is over\n")
            self._progress.resume()
        self._asked = question
        if question is not None:
            self._progress.pause()
            self._forget_typed()
            self._show(question)

    def _show(self, question: Question) -> None:
        from rich.markdown import Markdown
        from rich.text import Text

        console = looks.make_console(self._file)
        console.print(Text.assemble((_name(question), "bold"), " asks: ", (looks.printable(question.subject), "bold")))
        if question.body:
            text = "\n".join(map(looks.printable, question.body.splitlines()))
            console.print(Markdown(_PAGE.sub(r"\1", text), hyperlinks=False))
        self._say(f"Answer {_choice(question)}; a note may follow.\n{_prompt(question)}")

    def _forget_typed(self) -> None:
        """What was typed before the question was there is no answer to it."""
        import termios

        self._typed = b""
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)

    def _lines(self) -> Iterator[str]:
        number = sys.stdin.fileno()
        while select.select([number], [], [], 0)[0]:
            read = os.read(number, 4096)
            if not read:  # Ctrl-D: nobody will answer
                os.kill(os.getpid(), signal.SIGINT)
                return
            self._typed += read
            while b"\n" in self._typed:
                line, _, self._typed = self._typed.partition(b"\n")
                yield line.decode("utf-8", "replace").strip()

    def _say(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def _approvals(pipeline: Pipeline) -> list[Step]:
    return [step for step in pipeline.steps() if step.spec.kind == "approve"]


def _task_of(word: str, option: str, steps: Mapping[str, str]) -> str:
    from airflow_mlops.spec.problems import did_you_mean, one_of

    name = word.replace(".", "/")
    if name not in steps:
        expected = f"expected {one_of([*steps, ALL])}{did_you_mean(name, steps)}" if steps else "no step of it does"
        raise CommandError(f"--{option} {word}: no step of that name asks for an approval; {expected}")
    return steps[name]


def _will_ask(pipeline: Pipeline, step: Step, params: Mapping[str, Any]) -> bool:
    """Whether a step asks for certain. Where that depends on what other steps find out, it shows in the run."""
    from airflow_mlops.cli.params import with_defaults
    from airflow_mlops.spec.conditions import parse
    from airflow_mlops.spec.gates import PARAMS

    if step.spec.when is None:
        return True
    condition = parse(step.spec.when, frozenset((*step.spec.inputs, PARAMS)))
    if {path[0] for path in condition.paths} - {PARAMS}:
        return False
    verdict = condition.look({PARAMS: with_defaults(pipeline, dict(params))})
    return verdict.holds or bool(verdict.why)


def _read(line: str, question: Question) -> Reply | None:
    """A line that was typed: an option, or the beginning of its first word, and a note."""
    from airflow_mlops.cli.embedded import Reply

    for option in question.options:
        if line.casefold() == option.casefold():
            return Reply(option, _user())
    word, _, note = line.partition(" ")
    found = [option for option in question.options if word and option.casefold().startswith(word.casefold())]
    return Reply(found[0], _user(), {"note": note.strip()}) if len(found) == 1 else None


def _choice(question: Question) -> str:
    return " or ".join(looks.printable(option).lower() for option in question.options)


def _name(question: Question) -> str:
    from airflow_mlops.cli.progress import step_name

    return step_name(question.task_id, question.map_index)


def _prompt(question: Question) -> str:
    return f"{_name(question)}> "


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return "somebody"
