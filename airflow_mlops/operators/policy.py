# SPDX-License-Identifier: Apache-2.0
"""
What a deployment lets a step's program do, read from the ``[mlops]`` section and never from a spec.

A container gets no capabilities, no way to more privileges and a limited number of processes; what a step asks for beyond that is
refused with the setting that would allow it. Folders of the host are checked where they are mounted, and operators where they are
loaded, by the same rule.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.failures import PolicyViolation

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.docker import DockerStepOperator
    from airflow_mlops.operators.settings import Settings

_OWN_NETWORKS = (None, "", "bridge", "default", "none")
"""Networks that share nothing with the host or with other containers of somebody else's making."""

_OWN_IPC = (None, "", "none", "private")


def check_runtime(operator: StepOperator, settings: Settings) -> None:
    """
    Refuse a runtime that the deployment does not offer.

    :raises PolicyViolation: if so
    """
    allow(
        operator,
        f"runs in runtime '{operator.runtime}'",
        operator.runtime,
        settings.allowed_runtimes,
        "allowed_runtimes",
    )


def check_container(operator: DockerStepOperator, settings: Settings) -> None:
    """
    Refuse a container that asks for more than the deployment gives.

    :raises PolicyViolation: naming the setting that would allow it
    """
    network, ipc = operator.network_mode, operator.ipc_mode
    if network not in _OWN_NETWORKS:
        allow(operator, f"asks for network '{network}'", network, settings.allowed_networks, "allowed_networks")
    if ipc not in _OWN_IPC:
        allow(operator, f"asks for ipc_mode '{ipc}'", ipc, settings.allowed_ipc_modes, "allowed_ipc_modes")
    for capability in capabilities(operator.cap_add):
        allow(
            operator,
            f"asks for capability {capability}",
            capability,
            capabilities(settings.allowed_capabilities),
            "allowed_capabilities",
        )
    if _is_root(operator.user) and os.getuid() != 0:
        allow(operator, f"asks for user '{operator.user}'", "root", settings.allowed_users, "allowed_users")
    for request in operator.device_requests or ():
        wanted = [name for names in request.get("Capabilities") or request.get("capabilities") or () for name in names]
        if "gpu" not in wanted:
            raise PolicyViolation(
                f"step '{operator.task_id}' asks for devices {wanted}; a step is given GPUs alone (resources.gpu)"
            )
    if settings.require_digest and "@sha256:" not in str(operator.image):
        raise PolicyViolation(
            f"step '{operator.task_id}' runs image '{operator.image}', and [mlops] require_digest wants images by digest; "
            "expected a name such as python@sha256:…"
        )


def hardening(operator: DockerStepOperator, settings: Settings) -> dict[str, Any]:
    """Arguments of a container's host configuration that hold for every step."""
    read_only = {"read_only": True, "tmpfs": {"/tmp": ""}} if settings.read_only_root else {}  # noqa: S108 - in the container
    return {
        "cap_drop": ["ALL"],
        "cap_add": capabilities(operator.cap_add) or None,
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": settings.pids_limit,
        **read_only,
    }


def allow(operator: StepOperator, what: str, value: str, patterns: Iterable[str], setting: str) -> None:
    """
    Let a step have what one of some patterns allows.

    :param what: what it asks for, as the message says it
    :param setting: the option of the deployment that the patterns are from
    :raises PolicyViolation: if none does
    """
    listed = tuple(patterns)
    if not any(fnmatchcase(value, pattern) for pattern in listed):
        raise PolicyViolation(
            f"step '{operator.task_id}' {what}, which this deployment does not allow; "
            f"allow it with [mlops] {setting} (now: {', '.join(listed) or 'none'})"
        )


def capabilities(names: Iterable[str] | None) -> list[str]:
    """Capabilities as the kernel spells them, without ``CAP_``."""
    return [str(name).upper().removeprefix("CAP_") for name in names or ()]


def _is_root(user: Any) -> bool:
    name = str(user).partition(":")[0]
    return name == "root" or (name.isdigit() and int(name) == 0)
