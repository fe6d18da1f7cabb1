# SPDX-License-Identifier: Apache-2.0
"""
What an error of the Docker daemon means: that the step asks for what no retry can give it, or that the daemon has a bad day.

The daemon tells most of it in words alone. The words are those of moby and runc; tests have a daemon say most of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, AirflowTaskTimeout

from airflow_mlops.operators.failures import BadStep, CannotStart, InfrastructureFailure, StepFailure
from airflow_mlops.operators.version_compat import CONTROL_FLOW

if TYPE_CHECKING:
    from docker.errors import APIError

    from airflow_mlops.operators.program import Invocation

_NOT_THE_DAEMONS: tuple[type[BaseException], ...] = (StepFailure, AirflowTaskTimeout, *CONTROL_FLOW)
"""What passes through: it is Airflow's exceptions in form, and no word of the daemon's."""

_CLIENT_ERRORS = range(400, 500)
_PASSING = frozenset((408, 409, 429))
"""Timeouts, conflicts and too many requests: refused now, not for ever."""

_SERVER_ERROR = 500


@contextlib.contextmanager
def daemon_errors(task_id: str) -> Iterator[None]:
    """Make an infrastructure failure of whatever the daemon, or the way to it, fails with."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except _NOT_THE_DAEMONS:
        raise
    except AirflowNotFoundException as error:
        raise BadStep(f"step '{task_id}': {error}; expected the id of a connection that Airflow knows") from error
    except (DockerException, RequestException, AirflowException) as error:
        raise InfrastructureFailure(f"step '{task_id}': the Docker daemon failed: {error}") from error


@contextlib.contextmanager
def refusals(task_id: str) -> Iterator[None]:
    """
    Tell a container that can never be made from a daemon that fails.

    :raises CannotStart: if the daemon refuses what it was asked for
    :raises BadStep: if the client library refuses it before
    """
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        if not _is_refusal(error):
            raise
        raise CannotStart(
            f"step '{task_id}': the Docker daemon refuses its container: {error.explanation}; "
            "look at the step's image, resources, volumes and docker arguments"
        ) from error
    except (DockerException, TypeError, ValueError, AttributeError, KeyError) as error:
        raise BadStep(f"step '{task_id}': an argument of docker cannot be used: {error}") from error


def cannot_pull(task_id: str, image: str, error: APIError) -> CannotStart | None:
    """The failure, if an image does not exist or may not be had; ``None`` if the registry or the daemon fails."""
    text = str(error.explanation)
    missing = "not found" in text or "does not exist" in text or "no such host" in text
    if error.status_code is not None and error.status_code >= _SERVER_ERROR and not missing:
        return None
    return CannotStart(f"step '{task_id}': image '{image}' is not on the Docker host and cannot be pulled: {text}")


def cannot_run(task_id: str, invocation: Invocation, error: APIError) -> CannotStart | None:
    """The failure, if the program can never be executed in its container; ``None`` for everything else."""
    text = str(error.explanation)
    if "could not select device driver" in text:
        return CannotStart(
            f"step '{task_id}' asks for GPUs (resources.gpu), and this Docker host gives containers no GPUs: {text}; "
            "install its NVIDIA container toolkit, or send the step to another worker"
        )
    if any(words in text for words in _NO_PROGRAM):
        return CannotStart(
            f"step '{task_id}': image '{invocation.image}' cannot run {invocation.argv[:1] or 'its own command'}: {text}"
        )
    return None


_NO_PROGRAM = (
    "executable file not found",
    "exec:",
    "exec format error",
    "no such file or directory",
    "not a directory",
    "permission denied",
    "error setting rlimit",
)
"""What the daemon says where the command line shows exit codes 126 and 127."""


_CONFIGURATION = (
    "OCI runtime create failed",
    "failed to create shim task",
    "failed to initialize logging driver",
    "unable to find user",
    "unable to find group",
    "uids and gids must be in range",
    "nvalid IPC mode",
    "cannot unmarshal",
)
"""What the daemon says with status 500 of a container that can never be made as it was asked for."""

_EXHAUSTED = (
    "no space left",
    "cannot allocate memory",
    "temporarily unavailable",
    "too many open files",
    "deadline",
    "timed out",
)
"""What it says in the same words when the host has run out of something."""


def _is_refusal(error: APIError) -> bool:
    text = str(error.explanation)
    if error.status_code in _CLIENT_ERRORS:
        # An image that was there a moment ago: somebody prunes images.
        return error.status_code not in _PASSING and "No such image" not in text
    return any(words in text for words in _CONFIGURATION) and not any(words in text.lower() for words in _EXHAUSTED)
