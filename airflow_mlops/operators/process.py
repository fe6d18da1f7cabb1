# SPDX-License-Identifier: Apache-2.0
"""
The process runtime: a step's program as a child process of the worker, in a session of its own.

For laptops, tests and machines without Docker. It isolates nothing: the program runs as the worker's user, and CPU and memory are not limited.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops.operators.base import StepOperator
from airflow_mlops.operators.contract import INHERITED, Layout
from airflow_mlops.operators.failures import CannotStart, StepTimeout
from airflow_mlops.operators.kinds import operators_by_kind
from airflow_mlops.operators.ownership import ensure_owner

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.operators.logs import LineLog
    from airflow_mlops.operators.program import Invocation

_NOT_FOUND = "expected a program of the source folder (./train.sh), of the environment whose python runs the step, or on the worker's PATH"
_CANNOT_RUN = {
    errno.ENOENT: _NOT_FOUND,
    errno.ENOTDIR: _NOT_FOUND,
    errno.ELOOP: _NOT_FOUND,
    errno.ENAMETOOLONG: _NOT_FOUND,
    errno.EACCES: "expected a file that may be executed (chmod +x), or its interpreter in front of it: [sh, train.sh]",
    errno.ENOEXEC: "expected a program for this machine, or a script whose first line names its interpreter (#!/bin/sh)",
    errno.E2BIG: "its arguments and environment are more than this system takes; hand big values on as a file",
}
"""Why a program can never be started, by error number, and what to do about it. Any other error is the machine's trouble."""


class ProcessStepOperator(StepOperator):
    """
    Run a step's program as a process of the worker.

    :param venv: virtual environment whose ``python`` the program finds first; by default the worker's own
    """

    runtime: ClassVar[str] = "process"

    venv: str | None = None
    _process: subprocess.Popen[bytes] | None = None
    _started = 0.0

    def _runtime_keywords(self, image: str | None, keywords: dict[str, Any]) -> dict[str, Any]:
        self.venv = keywords.pop("venv", None)
        return keywords

    def layout(self, attempt: Attempt) -> Layout:
        """The contract's paths below the attempt's own scratch folder."""
        return Layout(str(attempt.workspace))

    def sealed_runtime(self, attempt: Attempt) -> dict[str, Any]:
        """The virtual environment, beside what every step has."""
        return {**super().sealed_runtime(attempt), "venv": self.venv}

    def run_program(self, attempt: Attempt) -> Ended:
        """
        Start the program, log what it prints, and wait for its end.

        :raises CannotStart: if there is no such program
        :raises StepTimeout: if it ran too long; it is stopped
        """
        from airflow_mlops.operators import scratch
        from airflow_mlops.operators.attempt import Ended
        from airflow_mlops.operators.programs import kill_programs

        try:
            self.link(attempt)
            exit_code = self._run(attempt)
        finally:
            # What has left the program's session must not write to what is committed next.
            kill_programs(attempt.workspace)
            scratch.remove_secrets(scratch.memory_folder(attempt.workspace))
        return Ended(exit_code, out_of_memory=False, facts={"python": sys.version.split()[0]})

    def clear_earlier(self, attempt: Attempt) -> str | None:
        """
        Kill what earlier tries of this task left running on this machine; a program cannot be followed by another process than the one that
        started it.
        """
        from airflow_mlops.artifacts import all_generations
        from airflow_mlops.artifacts.attempts import attempts_of
        from airflow_mlops.operators.programs import kill_programs

        identity = attempt.identity
        if identity.try_number == 1 and not identity.incarnation:
            return None
        ensure_owner(attempt)
        for place in all_generations(attempt.store, identity.place):
            for name in attempts_of(attempt.store, place):
                for number in kill_programs(attempt.workspace.with_name(f"mlops-{name}")):
                    self.log.warning("Killed process %s of attempt %s, whose worker died", number, name)
        return None

    def stop_program(self, attempt: Attempt) -> None:
        """
        Ask the program and its children to end. Whoever waits for it kills it when the grace is over, and since Airflow may kill that one
        sooner, so does a process of its own.
        """
        from airflow_mlops.operators.stopping import leave_behind

        process = self._process
        if process is not None:
            _signal_session(process, signal.SIGTERM)
            leave_behind(
                {"process": {"pid": process.pid, "started": self._started}, "grace": self.grace_seconds()}, attempt
            )

    def link(self, attempt: Attempt) -> None:
        """Show the program its inputs, outputs, checkpoint and secrets under the contract's names."""
        from airflow_mlops.operators import scratch, staging

        staging.link_inputs(attempt)
        if attempt.secret_files:
            secrets = scratch.memory_folder(attempt.workspace)
            staging.write_secrets(attempt, secrets)
            (attempt.workspace / "secrets").symlink_to(secrets)
        if not (attempt.workspace / "outputs").exists():
            (attempt.workspace / "outputs").symlink_to(attempt.outputs)
        if attempt.checkpoint is not None and not (attempt.workspace / "checkpoint").exists():
            (attempt.workspace / "checkpoint").symlink_to(attempt.checkpoint)

    def _run(self, attempt: Attempt) -> int:
        invocation = attempt.invocation
        assert invocation is not None  # noqa: S101 - the life of a step makes it before it runs the program
        if not invocation.argv:
            raise CannotStart(
                f"step '{self.task_id}' has no command; the process runtime has no image whose command it could run"
            )
        folder, environment = self.surroundings(invocation, attempt)
        try:
            process = self._process = subprocess.Popen(  # noqa: S603 - running the user's program is what a step is for
                invocation.argv,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                executable=_which(invocation.argv[0], folder, environment),
            )
        except OSError as error:
            if (hint := _CANNOT_RUN.get(error.errno or 0)) is None:
                raise
            raise CannotStart(
                f"step '{self.task_id}': cannot run '{invocation.argv[0]}': {error.strerror}; {hint}"
            ) from error
        self._started = time.time()
        return self._follow(process, attempt, invocation.timeout.total_seconds() if invocation.timeout else None)

    def surroundings(self, invocation: Invocation, attempt: Attempt) -> tuple[str, dict[str, str]]:
        """
        Where a program starts, and all of its variables.

        :raises CannotStart: if its virtual environment is not there
        """
        variables = {**self._inherited(), **invocation.environment, **invocation.secret_environment}
        return invocation.working_directory or str(attempt.tmp), variables

    def _inherited(self) -> dict[str, str]:
        """The worker's variables that are let through, with the step's python found first."""
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        python = Path(self.venv, "bin") if self.venv else Path(sys.executable).parent
        if not (python / "python").exists():
            raise CannotStart(
                f"step '{self.task_id}': {python / 'python'} does not exist on this worker; "
                "expected a virtual environment (process: {venv: …})"
            )
        variables["PATH"] = os.pathsep.join([str(python), variables.get("PATH", os.defpath)])
        if self.venv:
            variables["VIRTUAL_ENV"] = self.venv
        variables["PYTHONUNBUFFERED"] = "1"
        return variables

    def _follow(self, process: subprocess.Popen[bytes], attempt: Attempt, timeout: float | None) -> int:
        """
        Log the program's output until it has ended. Its end is what the system says of it, not the end of its output: a child that
        outlives it may keep that open.
        """
        lines = self.line_log(attempt)
        deadline = time.monotonic() + timeout if timeout is not None else None
        pipe = process.stdout
        assert pipe is not None  # noqa: S101 - asked for above
        os.set_blocking(pipe.fileno(), False)
        try:
            with _watched(process) as selector:
                while process.poll() is None:
                    if deadline is not None and time.monotonic() >= deadline:
                        raise StepTimeout.after(self.task_id, self.step_timeout)
                    if self._killed:
                        break
                    _drain(
                        selector,
                        pipe,
                        lines,
                        0.5 if deadline is None else min(0.5, max(deadline - time.monotonic(), 0)),
                    )
                if process.poll() is not None:
                    _read_rest(pipe.fileno(), lines)
        finally:
            _end_session(process, self.grace_seconds())
            lines.close()
            pipe.close()
        return process.returncode


@contextlib.contextmanager
def _watched(process: subprocess.Popen[bytes]) -> Iterator[selectors.BaseSelector]:
    """A selector that wakes when the program prints and, where the system can tell, at once when it has ended."""
    with selectors.DefaultSelector() as selector:
        assert process.stdout is not None  # noqa: S101 - started with a pipe
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            descriptor = os.pidfd_open(process.pid)
        except (AttributeError, OSError):
            yield selector
            return
        try:
            selector.register(descriptor, selectors.EVENT_READ)
            yield selector
        finally:
            os.close(descriptor)


def _drain(selector: selectors.BaseSelector, pipe: Any, lines: LineLog, wait: float) -> None:
    for key, _ in selector.select(wait):
        if key.fd == pipe.fileno():
            try:
                chunk = os.read(pipe.fileno(), 64 * 1024)
            except BlockingIOError:
                continue
            if chunk:
                lines.write(chunk)
            else:
                selector.unregister(pipe)


def _read_rest(descriptor: int, lines: LineLog) -> None:
    """What the program printed last; at most a pipe's buffer is left after its end."""
    for _ in range(64):
        try:
            chunk = os.read(descriptor, 64 * 1024)
        except BlockingIOError:
            return
        if not chunk:
            return
        lines.write(chunk)


def _which(program: str, folder: str, environment: Mapping[str, str]) -> str | None:
    """The program on the step's own PATH: ``Popen`` alone would look on the worker's."""
    import shutil

    if os.sep in program:
        return str(Path(folder, program))
    return shutil.which(program, path=environment["PATH"]) or program


def _signal_session(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _end_session(process: subprocess.Popen[bytes], grace: float) -> None:
    """See to it that nothing of the session is left: the program gets a grace, what outlives it does not."""
    if process.poll() is None:
        _signal_session(process, signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
    _signal_session(process, signal.SIGKILL)
    process.wait()


(
    ProcessPreprocessOperator,
    ProcessTrainOperator,
    ProcessEvaluateOperator,
    ProcessPredictOperator,
    ProcessContainerOperator,
) = operators_by_kind(ProcessStepOperator, "Process", __name__)

__all__: Sequence[str] = (
    "ProcessContainerOperator",
    "ProcessEvaluateOperator",
    "ProcessPredictOperator",
    "ProcessPreprocessOperator",
    "ProcessStepOperator",
    "ProcessTrainOperator",
)
