# SPDX-License-Identifier: Apache-2.0
"""How the container of an attempt is made: by which way its files travel, and with which GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.docker_container import create
from airflow_mlops.operators.docker_errors import refusals
from airflow_mlops.operators.docker_gpus import leased
from airflow_mlops.operators.docker_transfer import BindTransfer, VolumeTransfer
from airflow_mlops.operators.failures import CannotStart

if TYPE_CHECKING:
    from docker.types import Mount

    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.docker import DockerStepOperator
    from airflow_mlops.operators.docker_transfer import Transfer


def make_container(operator: DockerStepOperator, attempt: Attempt) -> str:
    """
    Create the container of an image that was found, with bind mounts where the daemon sees the worker's files, else with a volume.

    :return: its id
    :raises CannotStart: if the daemon refuses it
    """
    choice = attempt.settings.docker_transfer
    if choice != "volume":
        try:
            return _create_with(transfer_of(operator, attempt, by_volume=False), operator, attempt)
        except CannotStart as error:
            # A folder of the attempt's own carries its id; any other is one that the author asked for.
            unseen = "bind source path does not exist" in str(error) and attempt.id in str(error)
            if choice == "bind" or not unseen:
                raise
            operator.drop_transfer()
            operator.log.info(
                "The Docker daemon does not see this worker's files; inputs and outputs go through a volume"
            )
    return _create_with(transfer_of(operator, attempt, by_volume=True), operator, attempt)


def transfer_of(operator: DockerStepOperator, attempt: Attempt, *, by_volume: bool) -> Transfer:
    """The way on which the attempt's files travel."""
    owner = _numeric_owner(operator.user)
    return VolumeTransfer(attempt, owner) if by_volume else BindTransfer(attempt, owner)


def _create_with(transfer: Transfer, operator: DockerStepOperator, attempt: Attempt) -> str:
    operator._transfer = transfer
    mounts = transfer.prepare(operator.cli)
    with refusals(operator.task_id):
        operator.container = _created(operator, attempt, mounts)
    transfer.before_start(operator.cli, operator.container["Id"])
    return str(operator.container["Id"])


def _created(operator: DockerStepOperator, attempt: Attempt, mounts: list[Mount]) -> dict[str, Any]:
    """The container, with GPUs of its own where the deployment names those of the host."""
    count, settings = operator.step_resources.gpu, attempt.settings
    if not count or not settings.gpu_devices or operator.device_requests:
        return create(operator, attempt, mounts)
    return leased(
        operator.cli,
        settings.gpu_devices,
        count,
        lambda gpus: create(operator, attempt, mounts, gpus),
        task_id=operator.task_id,
        wait=settings.gpu_wait,
        check=lambda: operator.check_in(attempt),
        log=operator.log,
    )


def _numeric_owner(user: Any) -> tuple[int, int] | None:
    """The uid and gid of a user given by number; a name means something inside the image alone."""
    uid, _, gid = str(user).partition(":")
    return (int(uid), int(gid or uid)) if uid.isdigit() and (gid or uid).isdigit() else None
