# SPDX-License-Identifier: Apache-2.0
"""
The Docker runtime: a step's program as one container.

Built on the Docker provider's operator: its connection, TLS, login, pull and network settings are used as they are. What is replaced is how
the container is made (real limits, labels, the contract's mounts), how its end is told (by inspection, not by its output) and how results
come back (files, never the log).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.docker.operators.docker import DockerOperator

from airflow_mlops.operators.adoption import ensure_supervised, mark_stopped
from airflow_mlops.operators.base import StepOperator
from airflow_mlops.operators.contract import CONTAINER_ROOT, Layout
from airflow_mlops.operators.docker_errors import cannot_pull, cannot_run, daemon_errors, refusals
from airflow_mlops.operators.failures import BadStep, CannotStart, StepTimeout
from airflow_mlops.operators.identity import LABEL
from airflow_mlops.operators.kinds import operators_by_kind
from airflow_mlops.operators.ownership import ensure_owner

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.operators.docker_transfer import Transfer

GRACE = 10
"""Seconds that the daemon gives a program between SIGTERM and SIGKILL."""

WAIT_SLICE = 30.0
"""Seconds after which a wait for the container's end is renewed, so that a daemon that went away is noticed."""


class DockerStepOperator(StepOperator, DockerOperator):  # type: ignore[misc]  # the provider's types are narrower
    """
    Run a step's program in a Docker container.

    Besides the parameters of :class:`~airflow_mlops.operators.base.StepOperator`, the keywords of the Docker provider's operator are
    passed on, but for those that a step decides itself (``airflow_mlops.spec.passthrough`` lists them and says what to use instead).

    :param user: user the program runs as; default the worker's ``uid:gid``, so that it can write where the worker can
    """

    runtime: ClassVar[str] = "docker"
    # The provider's operator has template fields of its own that a step decides itself, and loads files named in them.
    template_fields: Sequence[str] = StepOperator.template_fields
    template_fields_renderers: ClassVar[dict[str, str]] = StepOperator.template_fields_renderers
    template_ext: Sequence[str] = ()

    _transfer: Transfer | None = None
    _deadline: float | None = None

    def _runtime_keywords(self, image: str | None, keywords: dict[str, Any]) -> dict[str, Any]:
        keywords["image"] = image
        keywords["mount_tmp_dir"] = False
        if keywords.get("user") is None:
            keywords["user"] = f"{os.getuid()}:{os.getgid()}"
        return keywords

    def layout(self, attempt: Attempt) -> Layout:
        """The contract's paths in a container."""
        return Layout()

    def sealed_container(self, attempt: Attempt) -> dict[str, Any]:
        """What a spec's ``docker:`` and ``volumes`` change of how the program runs."""
        invocation = attempt.invocation
        return {
            "entrypoint": self.entrypoint_words(),
            "user": str(self.user),
            "working_dir": (invocation.working_directory if invocation else None) or self.working_dir,
            "mounts": [f"{item.source}:{item.target}{':ro' if item.read_only else ''}" for item in self.volumes],
        }

    def entrypoint_words(self) -> list[str]:
        """The entry point that replaces the image's, as words; a string is split as Docker's command line splits it, and never evaluated."""
        if isinstance(self.entrypoint, str):
            return shlex.split(self.entrypoint)
        return [str(word) for word in self.entrypoint or ()]

    def run_program(self, attempt: Attempt) -> Ended:
        """
        Create the container, start it, log what it prints, and wait for its end.

        :raises CannotStart: if the image or the command does not exist
        :raises StepTimeout: if it ran too long; it is stopped
        :raises InfrastructureFailure: if the daemon fails
        """
        if attempt.adopted:
            return self._follow_earlier(attempt)
        self._need_image(attempt)
        with daemon_errors(self.task_id):
            container = self._create(attempt)
            self._start(container, attempt)
            return self._finish(container, attempt)

    def clear_earlier(self, attempt: Attempt) -> str | None:
        """
        Remove the containers of the task instance, so that never two of them live, all but one of this generation that still runs or has
        ended unseen.
        """
        from airflow_mlops.operators.docker_container import earlier_containers, goes_on, remove

        with daemon_errors(self.task_id):
            found = earlier_containers(self.cli, attempt)
            if not found:
                return None
            ensure_owner(attempt)
            kept = next((container for container in found if goes_on(container, attempt)), None)
            for container in found:
                if container is not kept:
                    self.log.info("Removing container %s of an earlier try", container["Id"][:12])
                    remove(self.cli, container["Id"], container["Labels"][f"{LABEL}.attempt"])
        if kept is None:
            return None
        self.container = kept
        return str(kept["Labels"][f"{LABEL}.attempt"])

    def _follow_earlier(self, attempt: Attempt) -> Ended:
        """Follow a container that an earlier try started, from the first line of its output to its end."""
        from airflow_mlops.operators.docker_transfer import BindTransfer, VolumeTransfer

        with daemon_errors(self.task_id):
            container = str(self.container["Id"])
            details = self.cli.inspect_container(container)
            self.image, self._image_id = details["Config"]["Image"], details["Image"]
            by_volume = any(mount["Destination"] == CONTAINER_ROOT for mount in details["Mounts"])
            owner = _numeric_owner(self.user)
            self._transfer = VolumeTransfer(attempt, owner) if by_volume else BindTransfer(attempt, owner)
            deadline = details["Config"]["Labels"].get(f"{LABEL}.deadline")
            if deadline is not None:
                self._deadline = time.monotonic() + float(deadline) - time.time()
            self._follow_output(container, attempt, logs=True)
            return self._finish(container, attempt)

    def _finish(self, container: str, attempt: Attempt) -> Ended:
        """Wait for the container's end and bring out what it wrote."""
        ended = self._await_end(container, attempt)
        if self._transfer is not None:
            self._transfer.bring_checkpoint(self.cli, container)
            self._transfer.bring_outputs(self.cli, container)
        return ended

    def lives_on(self) -> bool:
        """Whether there is a container: what failed around it did not end it."""
        return self.container is not None

    def forget_program(self, attempt: Attempt) -> None:
        """Remove the container, the volume and the secrets of the attempt."""
        from airflow_mlops.operators.docker_container import remove

        try:
            if self.container is not None:
                with daemon_errors(self.task_id):
                    remove(self.cli, self.container["Id"], attempt.id)
                self.container = None  # type: ignore[assignment]  # as the provider has it before there is one
        finally:
            self._drop_transfer()

    def stop_program(self, attempt: Attempt) -> None:
        """Have the daemon stop the container: the grace is its own, so it holds although Airflow kills this process sooner."""
        if self.container is not None:
            with contextlib.suppress(Exception):  # a container that is gone already is what was wanted
                self.cli.stop(self.container["Id"], timeout=GRACE)

    def _need_image(self, attempt: Attempt) -> None:
        """Pull the image unless the daemon has it."""
        from docker.errors import APIError, ImageNotFound

        self.image = attempt.invocation.image if attempt.invocation else self.image
        if not self.image:
            raise BadStep(f"step '{self.task_id}' has no image; the docker runtime needs one")
        with daemon_errors(self.task_id):
            if not self.force_pull:
                with contextlib.suppress(ImageNotFound), refusals(self.task_id):
                    self._image_id = self.cli.inspect_image(self.image)["Id"]
                    return
            self.log.info("Pulling image %s", self.image)
            try:
                self.cli.pull(self.image)
                self._image_id = self.cli.inspect_image(self.image)["Id"]
            except APIError as error:
                if failure := cannot_pull(self.task_id, self.image, error):
                    raise failure from error
                raise

    def _create(self, attempt: Attempt) -> str:
        """Create the container, with bind mounts where the daemon sees the worker's files, else with a volume."""
        from airflow_mlops.operators.docker_transfer import BindTransfer, VolumeTransfer

        choice = attempt.settings.docker_transfer
        owner = _numeric_owner(self.user)
        if choice != "volume":
            try:
                return self._create_with(BindTransfer(attempt, owner), attempt)
            except CannotStart as error:
                # A folder of the attempt's own carries its id; any other is one that the author asked for.
                unseen = "bind source path does not exist" in str(error) and attempt.id in str(error)
                if choice == "bind" or not unseen:
                    raise
                self._drop_transfer()
                self.log.info(
                    "The Docker daemon does not see this worker's files; inputs and outputs go through a volume"
                )
        return self._create_with(VolumeTransfer(attempt, owner), attempt)

    def _create_with(self, transfer: Transfer, attempt: Attempt) -> str:
        from airflow_mlops.operators.docker_container import create

        self._transfer = transfer
        mounts = transfer.prepare(self.cli)
        with refusals(self.task_id):
            self.container = create(self, attempt, mounts)
        transfer.before_start(self.cli, self.container["Id"])
        return str(self.container["Id"])

    def _start(self, container: str, attempt: Attempt) -> None:
        from docker.errors import APIError

        self._follow_output(container, attempt, logs=False)
        timeout = attempt.invocation.timeout if attempt.invocation else None
        self._deadline = time.monotonic() + timeout.total_seconds() if timeout is not None else None
        assert attempt.invocation is not None  # noqa: S101 - the life of a step makes it before it runs the program
        with refusals(self.task_id):
            try:
                self.cli.start(container)
            except APIError as error:
                if failure := cannot_run(self.task_id, attempt.invocation, error):
                    raise failure from error
                raise

    def _follow_output(self, container: str, attempt: Attempt, *, logs: bool) -> None:
        """
        Log what the container prints, beside the wait for its end.

        :param logs: from its beginning, rather than from now on
        """
        stream = self.cli.attach(container, stdout=True, stderr=True, stream=True, logs=logs)
        self._follower = threading.Thread(
            target=self._follow, args=(stream, attempt), name="container-log", daemon=True
        )
        self._follower.start()

    def _follow(self, stream: Iterator[bytes], attempt: Attempt) -> None:
        """Log what the container prints. Best effort: the verdict does not hang on it."""
        lines = self.line_log(attempt)
        try:
            for chunk in stream:
                lines.write(chunk)
        except Exception as error:  # whatever breaks the stream, the container is judged by its state
            self.log.warning("The container's output cannot be followed any more: %s", error)
        finally:
            lines.close()

    def _await_end(self, container: str, attempt: Attempt) -> Ended:
        from airflow_mlops.operators.attempt import Ended
        from airflow_mlops.operators.docker_container import wait_for_exit

        state = wait_for_exit(self.cli, container, self._deadline, WAIT_SLICE, lambda: ensure_supervised(attempt))
        if state is None:
            ensure_owner(attempt)
            mark_stopped(attempt)
            self.cli.stop(container, timeout=GRACE)
            self._follower.join(5)
            if self._transfer is not None:
                with contextlib.suppress(Exception):  # the timeout is what the step ends with
                    self._transfer.bring_checkpoint(self.cli, container)
            seconds = self.step_timeout.total_seconds() if self.step_timeout else 0
            raise StepTimeout(
                f"step '{self.task_id}' ran longer than its timeout of {seconds:g} s and was stopped; give it more time with timeout"
            )
        self._follower.join(5)
        return Ended(
            exit_code=int(state["ExitCode"]),
            out_of_memory=bool(state.get("OOMKilled")),
            facts={"image": self.image, "image_id": self._image_id, "container": container},
        )

    def _drop_transfer(self) -> None:
        if self._transfer is not None:
            with contextlib.suppress(Exception):  # what is left now is removed before the next try, or by clean
                self._transfer.close(self.cli)
            self._transfer = None


def _numeric_owner(user: Any) -> tuple[int, int] | None:
    """The uid and gid of a user given by number; a name means something inside the image alone."""
    uid, _, gid = str(user).partition(":")
    return (int(uid), int(gid or uid)) if uid.isdigit() and (gid or uid).isdigit() else None


(
    DockerPreprocessOperator,
    DockerTrainOperator,
    DockerEvaluateOperator,
    DockerPredictOperator,
    DockerContainerOperator,
) = operators_by_kind(DockerStepOperator, "Docker", __name__)

__all__: Sequence[str] = (
    "DockerContainerOperator",
    "DockerEvaluateOperator",
    "DockerPredictOperator",
    "DockerPreprocessOperator",
    "DockerStepOperator",
    "DockerTrainOperator",
)
