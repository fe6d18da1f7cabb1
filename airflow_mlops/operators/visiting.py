# SPDX-License-Identifier: Apache-2.0
"""Let somebody into a place that was opened again: one container, pod or process on their terminal, gone when they leave."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.operators import scratch
from airflow_mlops.operators.docker import DockerStepOperator
from airflow_mlops.operators.docker_daemon import command_line_options
from airflow_mlops.operators.docker_errors import daemon_errors
from airflow_mlops.operators.docker_making import make_container
from airflow_mlops.operators.failures import CannotStart
from airflow_mlops.operators.kubernetes import KubernetesStepOperator
from airflow_mlops.operators.process import ProcessStepOperator
from airflow_mlops.operators.programs import kill_programs

if TYPE_CHECKING:
    from airflow_mlops.operators.docker_image import Image
    from airflow_mlops.operators.reopening import Reopened

SHELL = ("sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi")
"""bash where there is one."""


class VisitorGone(BaseException):  # noqa: N818 - no error, and nobody's to catch but the one who let the visitor in
    """The terminal was closed, or somebody asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def noticing_who_goes() -> Iterator[None]:
    """
    Within, a terminal that is closed (SIGHUP) and a request to end (SIGTERM) end what is done there, so that it is cleaned up after.

    :raises VisitorGone: then
    """

    def gone(number: int, _: object) -> None:
        for each in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # once is enough: what is cleaned up must not be cut short
        raise VisitorGone(number)

    before = {number: signal.signal(number, gone) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def visit(place: Reopened, say: Callable[[str], None]) -> int:
    """
    Run what somebody wants to run there, on the terminal of this process, and remove the place afterwards.

    :param say: told what is not as it was
    :return: its exit code
    :raises CannotStart: if it cannot be run
    :raises InfrastructureFailure: if the Docker daemon or the cluster fails
    """
    if isinstance(place.operator, KubernetesStepOperator):
        return _in_pod(place, place.operator, say)
    try:
        if isinstance(place.operator, DockerStepOperator):
            with daemon_errors(place.operator.task_id):
                return _in_container(place, place.operator, say)
        return _in_process(place)
    finally:
        scratch.remove_scratch(place.attempt.workspace)


def _in_pod(place: Reopened, operator: KubernetesStepOperator, say: Callable[[str], None]) -> int:
    try:
        from airflow_mlops.operators.kubernetes_visit import visit_in_pod
    except ModuleNotFoundError as error:
        scratch.remove_scratch(place.attempt.workspace)
        raise CannotStart(
            f"step '{operator.task_id}' ran on Kubernetes, and {error.name} is not installed here; "
            "expected: pip install 'airflow-provider-mlops[kubernetes]'"
        ) from error
    return visit_in_pod(place, operator, say)


def _in_container(place: Reopened, operator: DockerStepOperator, say: Callable[[str], None]) -> int:
    attempt = place.attempt
    client = shutil.which("docker")
    if client is None:
        raise CannotStart(
            "the command 'docker' is not installed here, and it is what connects a terminal to a container"
        )
    operator.use_image(_image(place, operator, say))
    try:
        try:
            container = make_container(operator, attempt)
        except BaseException:
            operator.forget_unstarted(attempt)
            raise
        # The options say which daemon; a variable for another one must not change how it is talked to.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        with command_line_options(operator) as options:
            code = _on_terminal([client, *options, "start", "--attach", "--interactive", container], environment)
        state = operator.cli.inspect_container(container)["State"]
        # The client has a code of its own for what could not be started.
        return code if state["Running"] else int(state["ExitCode"])
    finally:
        operator.forget_program(attempt)
        operator.let_go()


def _image(place: Reopened, operator: DockerStepOperator, say: Callable[[str], None]) -> Image:
    """The very image that the step ran, whatever has its name by now."""
    from docker.errors import ImageNotFound

    from airflow_mlops.operators.docker_image import find_image, need_image

    invocation = place.attempt.invocation
    ran = invocation.image if invocation else None
    try:
        if ran is not None:
            return find_image(operator.cli, ran)
    except ImageNotFound:
        pass
    found = need_image(operator.cli, operator.image, task_id=operator.task_id, pull=False, log=operator.log)
    if ran is not None and ran != operator.image:
        say(f"the image that the step ran ({ran[:19]}) is gone; this is what is called {operator.image} now")
    return found


def _in_process(place: Reopened) -> int:
    operator, attempt = place.operator, place.attempt
    assert isinstance(operator, ProcessStepOperator)  # noqa: S101 - the caller told them apart
    operator.link(attempt)
    invocation = attempt.invocation
    assert invocation is not None  # noqa: S101 - made when the place was opened
    folder, variables = operator.surroundings(invocation, attempt)
    terminal = {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}
    try:
        return _on_terminal(invocation.argv, {**terminal, **variables}, folder)
    except OSError as error:
        raise CannotStart(f"cannot run '{invocation.argv[0]}': {error.strerror}") from error
    finally:
        kill_programs(attempt.workspace)


def _on_terminal(argv: list[str], environment: dict[str, str], folder: str | None = None) -> int:
    """Run a program on this terminal. Ctrl-C is for the program: who looks around must not be thrown out by it."""
    program = shutil.which(argv[0], path=environment.get("PATH")) or argv[0]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(  # noqa: S603 - what somebody wants to run is what this is for
            [program, *argv[1:]],
            env=environment,
            cwd=Path(folder) if folder else None,
            preexec_fn=_with_usual_signals,  # noqa: PLW1509 - nothing else runs here
        )
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except VisitorGone:
            process.kill()
            process.wait()
            raise
    finally:
        signal.signal(signal.SIGINT, before)


def _with_usual_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
