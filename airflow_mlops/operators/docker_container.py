# SPDX-License-Identifier: Apache-2.0
"""The containers of a step: created with real limits and labels, found again by them, and never left behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from docker.types import DeviceRequest, LogConfig, Mount

from airflow_mlops.operators.adoption import is_kept_evidence, is_worth_going_on
from airflow_mlops.operators.docker_gpus import LEASE
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.identity import LABEL, is_ours
from airflow_mlops.operators.policy import check_container, hardening
from airflow_mlops.operators.staging import check_host_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker import APIClient

    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.docker import DockerStepOperator
    from airflow_mlops.operators.program import Invocation

NANO = 10**9


def create(
    operator: DockerStepOperator, attempt: Attempt, mounts: list[Mount], gpus: Sequence[str] | None = None
) -> dict[str, Any]:
    """
    Create the container of an attempt.

    :param gpus: ids of the devices it has alone; ``None`` if the daemon chooses

    ``command`` replaces the image's entry point and ``args`` its arguments, as in Kubernetes, so that a step means the same on both.

    :raises PolicyViolation: if the step asks for more than the deployment gives
    """
    invocation = attempt.invocation
    assert invocation is not None  # noqa: S101 - the life of a step makes it before it runs the program
    check_container(operator, attempt.settings)
    entrypoint, command = operator.entrypoint_words(), invocation.argv
    if not entrypoint:
        entrypoint, command = list(invocation.command), list(invocation.args)
    container: dict[str, Any] = operator.cli.create_container(
        image=operator.image,
        name=f"mlops-{attempt.id}",
        entrypoint=entrypoint or None,
        command=command or None,
        environment={**invocation.environment, **invocation.secret_environment},
        user=operator.user,
        working_dir=invocation.working_directory or operator.working_dir,
        tty=operator.tty,
        stdin_open=operator.stdin_open,
        stop_timeout=operator.grace_seconds(),
        hostname=operator.hostname,
        ports=list(operator.port_bindings),
        labels={**attempt.identity.labels(attempt.id), **_deadline(invocation), **_digest(operator), **_lease(gpus)},
        host_config=_host_config(operator, attempt, mounts, gpus),
    )
    return container


def _deadline(invocation: Invocation) -> dict[str, str]:
    """When the step's timeout ends, seconds since the epoch, so that whoever finds the container knows it."""
    if invocation.timeout is None:
        return {}
    return {f"{LABEL}.deadline": str(round(time.time() + invocation.timeout.total_seconds()))}


def _digest(operator: DockerStepOperator) -> dict[str, str]:
    """What the image is called where its name cannot change, for a try that adopts the container."""
    digest = operator._found_image.digest
    return {} if digest is None else {f"{LABEL}.image-digest": digest}


def _lease(gpus: Sequence[str] | None) -> dict[str, str]:
    return {} if gpus is None else {LEASE: ",".join(gpus)}


def _host_config(
    operator: DockerStepOperator, attempt: Attempt, mounts: list[Mount], gpus: Sequence[str] | None
) -> dict[str, Any]:
    resources = operator.step_resources
    log_options = {"max-size": operator.log_opts_max_size, "max-file": operator.log_opts_max_file}
    config: dict[str, Any] = operator.cli.create_host_config(
        auto_remove=False,
        mounts=[*mounts, *_volumes(operator, attempt)],
        nano_cpus=round(resources.cpu * NANO) if resources.cpu else None,
        mem_limit=resources.memory,
        # The same value: no swap beyond the limit, or the limit would not be one.
        memswap_limit=resources.memory,
        shm_size=resources.shm,
        device_requests=_device_requests(operator, gpus),
        network_mode=operator.network_mode,
        dns=operator.dns,
        dns_search=operator.dns_search,
        extra_hosts=operator.extra_hosts,
        port_bindings=operator.port_bindings,
        **hardening(operator, attempt.settings),
        ipc_mode=operator.ipc_mode,
        ulimits=operator.ulimits,
        log_config=LogConfig(config={name: str(value) for name, value in log_options.items() if value is not None}),
    )
    return config


def _device_requests(operator: DockerStepOperator, gpus: Sequence[str] | None) -> list[DeviceRequest] | None:
    if gpus is not None:
        return [DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])]
    if operator.device_requests:
        return list(operator.device_requests)
    if operator.step_resources.gpu:
        return [DeviceRequest(count=operator.step_resources.gpu, capabilities=[["gpu"]])]
    return None


def _volumes(operator: DockerStepOperator, attempt: Attempt) -> list[Mount]:
    from pathlib import Path

    mounts = []
    for volume in operator.volumes:
        source = str(volume.source)
        is_path = source.startswith("/")
        if is_path:
            check_host_path(Path(source), attempt.settings)
            source = attempt.settings.host_path(Path(source))
        elif "/" in source:
            raise BadStep(f"volume source {source!r} is neither an absolute path nor the name of a volume")
        mounts.append(
            Mount(volume.target, source, type="bind" if is_path else "volume", read_only=bool(volume.read_only))
        )
    return mounts


def earlier_containers(cli: APIClient, attempt: Attempt) -> list[dict[str, Any]]:
    """All containers of this task instance, whatever the try, the newest first."""
    labels = [f"{name}={value}" for name, value in attempt.identity.task_labels.items()]
    found: list[dict[str, Any]] = [one for one in cli.containers(all=True, filters={"label": labels}) if is_ours(one)]
    return sorted(found, key=lambda container: int(container["Created"]), reverse=True)


def goes_on(container: dict[str, Any], attempt: Attempt) -> bool:
    """
    Whether a container is one to go on with: of this generation, started, and neither failed nor stopped by a try that said so.
    """
    return container["State"] in ("running", "exited") and is_worth_going_on(
        attempt,
        earlier=_label(container, "attempt"),
        generation=_label(container, "generation"),
        incarnation=_label(container, "incarnation"),
        started_by=_label(container, "try"),
    )


def is_evidence(container: dict[str, Any], attempt: Attempt) -> bool:
    """Whether a container has ended and is kept for a person to look at."""
    labels = container["Labels"]
    return container["State"] in ("exited", "dead") and is_kept_evidence(
        attempt,
        earlier=labels[f"{LABEL}.attempt"],
        generation=labels[f"{LABEL}.generation"],
        incarnation=labels[f"{LABEL}.incarnation"],
    )


def _label(container: dict[str, Any], name: str) -> str | None:
    found: str | None = container["Labels"].get(f"{LABEL}.{name}")
    return found
