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
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.docker.operators.docker import DockerOperator

from airflow_mlops.operators.adoption import mark_stopped
from airflow_mlops.operators.base import StepOperator
from airflow_mlops.operators.contract import CONTAINER_ROOT, Layout
from airflow_mlops.operators.docker_errors import cannot_run, daemon_errors, refusals
from airflow_mlops.operators.durable import DurableStepOperator
from airflow_mlops.operators.failures import (
    BadStep,
    InfrastructureFailure,
    StepTimeout,
)
from airflow_mlops.operators.identity import LABEL
from airflow_mlops.operators.kinds import operators_by_kind
from airflow_mlops.operators.ownership import ensure_owner

if TYPE_CHECKING:
    from airflow.providers.docker.hooks.docker import DockerHook

    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.operators.docker_daemon import Patience
    from airflow_mlops.operators.docker_image import Image
    from airflow_mlops.operators.docker_logs import Follower
    from airflow_mlops.operators.docker_tls import Host
    from airflow_mlops.operators.docker_transfer import Transfer
    from airflow_mlops.operators.settings import Settings


class DockerStepOperator(DurableStepOperator, DockerOperator):  # type: ignore[misc]  # the provider's types are narrower
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

    stdin_open = False
    _transfer: Transfer | None = None
    _deadline: float | None = None
    _daemon: Patience
    _found_image: Image
    _follower: Follower
    _worthless = False
    _may_have_started = False
    _peak_memory = 0
    _host: Host | None = None
    _names_daemon = False

    def _runtime_keywords(self, image: str | None, keywords: dict[str, Any]) -> dict[str, Any]:
        keywords["image"] = image
        keywords["mount_tmp_dir"] = False
        if keywords.get("user") is None:
            keywords["user"] = f"{os.getuid()}:{os.getgid()}"
        if keywords.get("docker_url") is not None:
            if self.docker_host_conn_id is not None:
                raise BadStep("docker_host_conn_id and docker_url both say which Docker daemon; expected one of them")
            self.__dict__["_names_daemon"] = True
        return keywords

    def host_connection(self, settings: Settings) -> str | None:
        """Id of the connection that says which Docker daemon it is; ``None`` where ``docker_url`` or the environment does."""
        return self.docker_host_conn_id or (None if self._names_daemon else settings.docker_host_conn_id)

    @cached_property
    def hook(self) -> DockerHook:
        """The provider's hook, for the daemon of the connection if there is one. Not read before a task runs."""
        from airflow_mlops.operators.settings import load_settings

        conn_id = self.host_connection(self._attempt.settings if self._attempt is not None else load_settings())
        if conn_id is None:
            hook: DockerHook = super().hook
            return hook
        from airflow_mlops.operators.docker_connection import HostHook, named_host

        # Kept: a signal handler must not ask for it.
        self._host = named_host(conn_id)
        return HostHook(
            self._host, conn_id, docker_conn_id=self.docker_conn_id, version=self.api_version, timeout=self.timeout
        )

    def layout(self, attempt: Attempt) -> Layout:
        """The contract's paths in a container."""
        return Layout()

    def sealed_container(self, attempt: Attempt) -> dict[str, Any]:
        """What a spec's ``docker:`` and ``volumes`` change of how the program runs."""
        from airflow_mlops.operators.docker_seal import sealed_container

        return sealed_container(self, attempt)

    def sealed_runtime(self, attempt: Attempt) -> dict[str, Any]:
        """The daemon and the network, beside what every step has."""
        from airflow_mlops.operators.docker_seal import sealed_docker

        return {
            **super().sealed_runtime(attempt),
            "docker": sealed_docker(self, self.host_connection(attempt.settings)),
        }

    def image_id(self) -> str | None:
        """Id of the image, once the daemon was asked for it."""
        found: Image | None = self.__dict__.get("_found_image")
        return found.id if found is not None else None

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
        :raises InfrastructureFailure: if the daemon fails, or is away for longer than the deployment says
        :raises StepDetached: if the worker shuts down and leaves the container to the next try
        """
        from airflow_mlops.operators.docker_image import need_image
        from airflow_mlops.operators.docker_making import make_container

        with daemon_errors(self.task_id):
            self._daemon = self._patience(attempt)
            if attempt.adopted:
                return self._follow_earlier(attempt)
            wanted = attempt.invocation.image if attempt.invocation else self.image
            self.use_image(need_image(self.cli, wanted, task_id=self.task_id, pull=self.force_pull, log=self.log))
            try:
                container = make_container(self, attempt)
                self._start(container, attempt)
            except BaseException:
                self.forget_unstarted(attempt)
                raise
            return self._finish(container, attempt)

    def use_image(self, image: Image) -> None:
        """Make containers of an image that the daemon has."""
        self._found_image, self.image = image, image.name

    def forget_unstarted(self, attempt: Attempt) -> None:
        """
        Remove a container that was never asked to start. Nobody else goes on with it, so this is done by a process that has lost its step,
        too: it alone knows of one that it created a moment ago.
        """
        from airflow_mlops.operators.docker_removal import remove, remove_unheard

        if self._may_have_started:
            return
        with contextlib.suppress(Exception):  # why it could not start is what matters
            if self.container is not None:
                remove(self.cli, self.container["Id"], attempt.id)
                self.container = None  # type: ignore[assignment]  # as the provider has it before there is one
            elif self._transfer is not None:
                remove_unheard(self.cli, attempt.id, attempt.identity.labels(attempt.id))
        self.drop_transfer()

    def _patience(self, attempt: Attempt) -> Patience:
        from airflow_mlops.operators.docker_daemon import Patience

        return Patience(
            self.cli,
            attempt.settings.daemon_patience,
            task_id=self.task_id,
            log=self.log,
            check=lambda: self.check_in(attempt),
        )

    def clear_earlier(self, attempt: Attempt) -> str | None:
        """
        Remove the containers of the task instance, so that never two of them live, all but one of this generation that still runs or has
        ended unseen.
        """
        from airflow_mlops.operators.docker_container import earlier_containers, goes_on, is_evidence
        from airflow_mlops.operators.docker_removal import remove

        with daemon_errors(self.task_id):
            found = [one for one in earlier_containers(self.cli, attempt) if not is_evidence(one, attempt)]
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
        from airflow_mlops.operators.docker_image import Image
        from airflow_mlops.operators.docker_making import transfer_of

        container = str(self.container["Id"])
        details = self.cli.inspect_container(container)
        labels = details["Config"]["Labels"]
        self.image = details["Config"]["Image"]
        self._found_image = Image(self.image, details["Image"], labels.get(f"{LABEL}.image-digest") or None)
        by_volume = any(mount["Destination"] == CONTAINER_ROOT for mount in details["Mounts"])
        self._transfer = transfer_of(self, attempt, by_volume=by_volume)
        deadline = labels.get(f"{LABEL}.deadline")
        if deadline:
            self._deadline = time.monotonic() + float(deadline) - time.time()
        self._follow_output(container, attempt)
        return self._finish(container, attempt)

    def _finish(self, container: str, attempt: Attempt) -> Ended:
        """Wait for the container's end and bring out what it wrote."""
        ended = self._await_end(container, attempt)
        if (transfer := self._transfer) is not None:
            self._daemon.ask(lambda: transfer.bring_checkpoint(self.cli, container))
            self._daemon.ask(lambda: transfer.bring_outputs(self.cli, container))
        return ended

    def lives_on(self) -> bool:
        """Whether there is a container worth going on with: what failed around it did not end it."""
        return self.container is not None and not self._worthless

    def forget_program(self, attempt: Attempt) -> None:
        """Remove the container, the volume and the secrets of the attempt."""
        from airflow_mlops.operators.docker_removal import remove

        try:
            if self.container is not None:
                container = self.container["Id"]
                with daemon_errors(self.task_id):
                    self._patience(attempt).ask(lambda: remove(self.cli, container, attempt.id))
                self.container = None  # type: ignore[assignment]  # as the provider has it before there is one
        finally:
            self.drop_transfer()

    def evidence(self, attempt: Attempt) -> str:
        """What else a failed attempt leaves to look at."""
        return "" if self.container is None else f", and its container: docker logs mlops-{attempt.id}"

    def let_go(self) -> None:
        """Close the connections to the daemon: a process may run many steps, as ``dag.test()`` does."""
        if (hook := self.__dict__.pop("hook", None)) is not None and "api_client" in hook.__dict__:
            hook.api_client.close()
        self._host = None

    def stop_program(self, attempt: Attempt) -> None:
        """
        Have the daemon stop the container. The grace is the daemon's own, and a process of its own removes the container afterwards, since
        Airflow kills this one sooner.
        """
        from airflow_mlops.operators.docker_daemon import clients_of
        from airflow_mlops.operators.stopping import leave_behind

        if self.container is None:
            return
        docker = {"clients": clients_of(self), "container": self.container["Id"], "attempt": attempt.id}
        leave_behind({"docker": docker, "grace": self.grace_seconds()}, attempt)

    def _start(self, container: str, attempt: Attempt) -> None:
        from docker.errors import APIError

        from airflow_mlops.operators.docker_daemon import start

        self.ensure_wanted()
        self.check_in(attempt)
        ensure_owner(attempt)
        timeout = attempt.invocation.timeout if attempt.invocation else None
        self._deadline = time.monotonic() + timeout.total_seconds() if timeout is not None else None
        assert attempt.invocation is not None  # noqa: S101 - the life of a step makes it before it runs the program
        self._may_have_started = True
        with refusals(self.task_id):
            try:
                start(self._daemon, container)
            except APIError as error:
                if failure := cannot_run(self.task_id, attempt.invocation, error):
                    raise failure from error
                raise
        self._follow_output(container, attempt)

    def _follow_output(self, container: str, attempt: Attempt) -> None:
        """Log what the container prints, from its first line, beside the wait for its end."""
        from airflow_mlops.operators.docker_logs import Follower

        self._follower = Follower(self.cli, container, self.line_log(attempt), self.log, tty=bool(self.tty))

    def _await_end(self, container: str, attempt: Attempt) -> Ended:
        """
        Wait for the container's end.

        :raises StepFailure: if it did not end by itself
        """
        from airflow_mlops.operators.attempt import Ended
        from airflow_mlops.operators.docker_wait import Watch, was_killed_from_outside

        watch = Watch(self._daemon, container, self.task_id, self._deadline, lambda: self._look(container, attempt))
        try:
            state = watch.await_end()
        except InfrastructureFailure:
            self._follower.finish(0)
            raise
        if state is None:
            self._stop_late(container, attempt)
        self._follower.finish()
        self.ensure_wanted()
        if was_killed_from_outside(state):
            self._worthless = True
            mark_stopped(attempt)
            raise InfrastructureFailure(
                f"step '{self.task_id}': its container was killed from outside (exit code {state['ExitCode']}, and not for its memory): "
                "the Docker daemon or its host was shut down, or somebody stopped it"
            )
        return Ended(
            exit_code=int(state["ExitCode"]),
            out_of_memory=bool(state.get("OOMKilled")),
            facts={**self._found_image.facts(), "container": container},
            peak_memory=self._peak_memory or None,
        )

    def _look(self, container: str, attempt: Attempt) -> None:
        """What is looked after while the container runs."""
        self.check_in(attempt)
        self._follower.look_after()
        if self.step_resources.memory:
            with contextlib.suppress(Exception):  # for a message alone
                memory = self.cli.stats(container, stream=False, one_shot=True)["memory_stats"]
                self._peak_memory = max(self._peak_memory, memory.get("max_usage", 0), memory.get("usage", 0))

    def _stop_late(self, container: str, attempt: Attempt) -> NoReturn:
        """
        Stop a container whose time is over.

        :raises StepTimeout: when it has ended
        """
        ensure_owner(attempt)
        mark_stopped(attempt)
        self._daemon.ask(lambda: self.cli.stop(container, timeout=self.grace_seconds()))
        self._follower.finish()
        if (transfer := self._transfer) is not None:
            with contextlib.suppress(Exception):  # the timeout is what the step ends with
                transfer.bring_checkpoint(self.cli, container)
        raise StepTimeout.after(self.task_id, self.step_timeout)

    def drop_transfer(self) -> None:
        """Remove what files travel by."""
        if self._transfer is not None:
            with contextlib.suppress(Exception):  # what is left now is removed before the next try, or by clean
                self._transfer.close(self.cli)
            self._transfer = None


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
