# SPDX-License-Identifier: Apache-2.0
"""
What a deployment allows a pod, asked of the pod as it would be created: whatever a step's keywords or its patch put there is seen.

The same settings as for Docker's containers, in Kubernetes' words. What the deployment's own ``pod_mutation_hook`` does comes later, and is
the deployment's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.failures import PolicyViolation
from airflow_mlops.operators.policy import allow, capabilities
from airflow_mlops.operators.staging import check_host_path

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.settings import Settings


def check_pod(operator: StepOperator, settings: Settings, pod: Mapping[str, Any]) -> None:
    """
    Refuse a pod that asks for more than the deployment gives.

    :param pod: its manifest, in Kubernetes' own names
    :raises PolicyViolation: naming the setting that would allow it
    """
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        allow(operator, "asks for the host's network", "host", settings.allowed_networks, "allowed_networks")
    if spec.get("hostIPC"):
        allow(operator, "asks for the host's IPC namespace", "host", settings.allowed_ipc_modes, "allowed_ipc_modes")
    if spec.get("hostPID"):
        raise PolicyViolation(
            f"step '{operator.task_id}' asks for the host's processes (hostPID), which no step is given"
        )
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account not in (None, "default"):
        what = f"asks for service account '{account}'"
        allow(operator, what, account, settings.allowed_service_accounts, "allowed_service_accounts")
    _check_security(operator, settings, "the pod", spec.get("securityContext") or {})
    for volume in spec.get("volumes") or ():
        if "hostPath" in volume and not _is_shared(volume, settings):
            check_host_path(Path(volume["hostPath"]["path"]), settings)
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        _check_container(operator, settings, container)


def _check_container(operator: StepOperator, settings: Settings, container: Mapping[str, Any]) -> None:
    where = f"container '{container['name']}'"
    security = container.get("securityContext") or {}
    _check_security(operator, settings, where, security)
    if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
        raise PolicyViolation(
            f"step '{operator.task_id}': {where} may gain privileges, which no step is given; "
            "expected allowPrivilegeEscalation: false and not privileged in its securityContext"
        )
    for capability in capabilities((security.get("capabilities") or {}).get("add")):
        allowed = capabilities(settings.allowed_capabilities)
        allow(operator, f"asks for capability {capability}", capability, allowed, "allowed_capabilities")
    image = str(container.get("image"))
    if settings.require_digest and "@sha256:" not in image:
        raise PolicyViolation(
            f"step '{operator.task_id}' runs image '{image}', and [mlops] require_digest wants images by digest; "
            "expected a name such as python@sha256:…"
        )


def _check_security(operator: StepOperator, settings: Settings, where: str, security: Mapping[str, Any]) -> None:
    if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        allow(operator, f"asks for root as user of {where}", "root", settings.allowed_users, "allowed_users")
    for field in ("seccompProfile", "appArmorProfile"):
        if (security.get(field) or {}).get("type") == "Unconfined":
            raise PolicyViolation(f"step '{operator.task_id}': {where} switches its {field} off, which no step may")
    if security.get("procMount") not in (None, "Default") or security.get("sysctls"):
        raise PolicyViolation(f"step '{operator.task_id}': {where} changes its kernel's settings, which no step may")


def _is_shared(volume: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a volume is one of those that the deployment itself shares with pods."""
    source = {name: value for name, value in volume.items() if name != "name"}
    return source in [dict(shared) for shared in settings.kubernetes_volumes.values()]
