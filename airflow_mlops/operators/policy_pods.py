# SPDX-License-Identifier: Apache-2.0
"""
What a deployment allows a pod, asked of the pod as it would be created: whatever a step's keywords or its patch put there is seen.

The same settings as for Docker's containers, in Kubernetes' words. What the deployment's own ``pod_mutation_hook`` has put there is looked at,
too: the settings must allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.failures import PolicyViolation
from airflow_mlops.operators.kubernetes_state import STAGE_IN, STAGE_OUT
from airflow_mlops.operators.policy import allow, capabilities
from airflow_mlops.operators.staging import check_host_path

SHARED = "mlops-shared-"
"""How the names of volumes begin that the deployment shares with pods."""

_HARMLESS = ("emptyDir", "configMap", "downwardAPI", "secret", "projected", "ephemeral")

if TYPE_CHECKING:
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator
    from airflow_mlops.operators.settings import Settings


def check_pod(operator: KubernetesStepOperator, settings: Settings, pod: Mapping[str, Any]) -> None:
    """
    Refuse a pod that asks for more than the deployment gives.

    :param pod: its manifest, in Kubernetes' own names
    :raises PolicyViolation: naming the setting that would allow it
    """
    for _, check in checks_of(operator, settings, pod):
        check()


def checks_of(
    operator: KubernetesStepOperator, settings: Settings, pod: Mapping[str, Any]
) -> Iterator[tuple[tuple[str | int, ...], Callable[[], None]]]:
    """
    What :func:`check_pod` looks at, one after the other, for whoever wants to know all that is refused.

    :return: where in the pod it looks, and the check, which raises by itself
    """
    spec = pod["spec"]
    yield ("metadata", "namespace"), partial(_check_namespace, operator, settings)
    yield ("spec",), partial(_check_place, operator, settings, spec)
    yield ("spec",), partial(_check_account, operator, settings, spec, pod["metadata"]["name"])
    of_pod = spec.get("securityContext") or {}
    yield ("spec",), partial(_check_security, operator, settings, "the pod", of_pod)
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield ("spec", "volumes", index), partial(_check_volume, operator, settings, volume)
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            where = ("spec", kind, index)
            yield where, partial(_check_container, operator, settings, container)
            yield where, partial(_check_hardening, operator, settings, container, of_pod)


def _check_namespace(operator: KubernetesStepOperator, settings: Settings) -> None:
    if operator.pod_keywords.get("namespace") is not None:
        namespace = str(operator.pod_keywords["namespace"])
        allow(
            operator, f"asks for namespace '{namespace}'", namespace, settings.allowed_namespaces, "allowed_namespaces"
        )


def _check_place(operator: StepOperator, settings: Settings, spec: Mapping[str, Any]) -> None:
    """What the pod shares with its node, and within itself."""
    if spec.get("hostNetwork"):
        allow(operator, "asks for the host's network", "host", settings.allowed_networks, "allowed_networks")
    if spec.get("hostIPC"):
        allow(operator, "asks for the host's IPC namespace", "host", settings.allowed_ipc_modes, "allowed_ipc_modes")
    if spec.get("hostPID"):
        raise PolicyViolation(
            f"step '{operator.task_id}' asks for the host's processes (hostPID), which no step is given"
        )
    if spec.get("shareProcessNamespace"):
        raise PolicyViolation(
            f"step '{operator.task_id}' lets the containers of its pod see each other's processes (shareProcessNamespace), and with them the "
            "store's credentials, which no step is given"
        )


def _check_account(operator: StepOperator, settings: Settings, spec: Mapping[str, Any], own: str) -> None:
    """What the pod may do in the cluster, and which secrets it sees."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    if account != "default" or spec.get("automountServiceAccountToken") or _tokens(spec):
        what = f"asks for service account '{account}'"
        allow(operator, what, account, settings.allowed_service_accounts, "allowed_service_accounts")
    for secret in secrets_of(spec, own):
        allow(operator, f"asks for secret '{secret}'", secret, settings.allowed_secrets, "allowed_secrets")
    if spec.get("automountServiceAccountToken") is not False:
        allow(
            operator,
            "asks for a service account's token",
            account,
            settings.allowed_service_accounts,
            "allowed_service_accounts",
        )


def _check_container(operator: StepOperator, settings: Settings, container: Mapping[str, Any]) -> None:
    where = f"container '{container['name']}'"
    security = container.get("securityContext") or {}
    _check_security(operator, settings, where, security)
    if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
        raise PolicyViolation(
            f"step '{operator.task_id}': {where} may gain privileges, which no step is given; "
            "expected allowPrivilegeEscalation: false and not privileged in its securityContext"
        )
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        allow(operator, "asks for a port of the host", "host", settings.allowed_networks, "allowed_networks")
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


def _check_hardening(
    operator: StepOperator, settings: Settings, container: Mapping[str, Any], of_pod: Mapping[str, Any]
) -> None:
    """See that what every container is given was not taken away, by a patch or a keyword that replaces the whole."""
    security = {**of_pod, **(container.get("securityContext") or {})}
    where = f"container '{container['name']}'"
    if security.get("runAsNonRoot") is not True:
        allow(operator, f"asks for root as user of {where}", "root", settings.allowed_users, "allowed_users")
    if "ALL" not in capabilities((security.get("capabilities") or {}).get("drop")):
        what = f"asks for the runtime's default capabilities in {where}"
        allow(operator, what, "DEFAULT", capabilities(settings.allowed_capabilities), "allowed_capabilities")
    if (security.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        raise PolicyViolation(f"step '{operator.task_id}': {where} has no seccompProfile, which no step may switch off")


def _check_volume(operator: StepOperator, settings: Settings, volume: Mapping[str, Any]) -> None:
    source = {name: value for name, value in volume.items() if name != "name"}
    if volume["name"].startswith(SHARED) and source in [
        dict(shared) for shared in settings.kubernetes_volumes.values()
    ]:
        return  # put there by this package: patches of such names are refused
    for kind, details in source.items():
        if kind == "hostPath":
            check_host_path(Path(details["path"]), settings)
        elif kind == "persistentVolumeClaim":
            claim = str(details.get("claimName"))
            allow(operator, f"asks for volume claim '{claim}'", claim, settings.allowed_volumes, "allowed_volumes")
        elif kind not in _HARMLESS:
            raise PolicyViolation(
                f"step '{operator.task_id}' asks for a volume of kind '{kind}'; expected one of {', '.join(_HARMLESS)}, "
                "persistentVolumeClaim, hostPath"
            )


def secrets_of(spec: Mapping[str, Any], own: str) -> Iterator[str]:
    """
    Names of the secrets that a pod shows to its containers, beyond what a step's ``secrets`` have put there.

    :param spec: of the pod
    :param own: name of the pod's own secret, of which the program sees the step's secrets, and the stager alone the rest
    """
    for volume in spec.get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if (secret := source.get("secret")) is not None:
                name = str(secret.get("secretName") or secret.get("name"))
                items = secret.get("items") or [{"key": ""}]
                if name != own or not all(item["key"].startswith("file.") for item in items):
                    yield name
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for source in container.get("envFrom") or ():
            if "secretRef" in source:
                yield str(source["secretRef"].get("name"))
        shown = "stager." if container["name"] in (STAGE_IN, STAGE_OUT) else "env."
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference is not None and (reference.get("name") != own or not reference["key"].startswith(shown)):
                yield str(reference.get("name"))


def _tokens(spec: Mapping[str, Any]) -> bool:
    """Whether a volume holds a token of the service account."""
    sources = [
        source
        for volume in spec.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    ]
    return any("serviceAccountToken" in source for source in sources)
