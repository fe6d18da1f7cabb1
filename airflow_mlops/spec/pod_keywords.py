# SPDX-License-Identifier: Apache-2.0
"""
Which arguments of KubernetesPodOperator a step's ``kubernetes:`` may hold, and why the others are reserved.

A test holds both tables against the installed provider, as for Docker (:mod:`airflow_mlops.spec.passthrough`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.keyword_forms import BY_NAME, FLAG, MAPPING, MAPPINGS, TEXT, TEXTS, Form, check_keywords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KUBERNETES_ALLOWED: Mapping[str, Form] = {
    "affinity": MAPPING,
    "annotations": BY_NAME,
    "automount_service_account_token": FLAG,
    "cluster_context": TEXT,
    "configmaps": TEXTS,
    "container_security_context": MAPPING,
    "dns_config": MAPPING,
    "dnspolicy": TEXT,
    "host_aliases": MAPPINGS,
    "hostname": TEXT,
    "hostnetwork": FLAG,
    "image_pull_policy": TEXT,
    "image_pull_secrets": MAPPINGS,
    "in_cluster": FLAG,
    "kubernetes_conn_id": TEXT,
    "labels": BY_NAME,
    "namespace": TEXT,
    "node_selector": BY_NAME,
    "priority_class_name": TEXT,
    "runtime_class_name": TEXT,
    "schedulername": TEXT,
    "security_context": MAPPING,
    "service_account_name": TEXT,
    "subdomain": TEXT,
    "tolerations": MAPPINGS,
}
"""Arguments that a spec may hold, and the form of each. Mappings have Kubernetes' own camelCase names."""

KUBERNETES_OURS: Mapping[str, Form] = {"gpu_resource": TEXT}
"""Arguments of our own operators that a spec may hold there as well."""

_POD = "use 'pod', which takes Kubernetes' own names"
_OWN_KEY = "the step has a key of its own for it; use"
_WATCHED = "a pod is watched, not polled; nothing to set"
_LIFE = "the step keeps its pod until its exit code was read; nothing to set"
_FILES = "results come from files; use 'outputs'"

KUBERNETES_RESERVED: Mapping[str, str] = {
    "image": f"{_OWN_KEY} 'image'",
    "name": "it identifies the pod, so that a retry finds it again; nothing to set",
    "random_name_suffix": "it identifies the pod, so that a retry finds it again; nothing to set",
    "base_container_name": "the program's container is called 'step'; nothing to set",
    "cmds": f"{_OWN_KEY} 'command'",
    "arguments": f"{_OWN_KEY} 'args'",
    "env_vars": f"{_OWN_KEY} 'env'",
    "env_from": f"a step's environment is written in the spec; use 'env', 'secrets', or 'configmaps' here; else {_POD}",
    "secrets": f"{_OWN_KEY} 'secrets'",
    "ports": _POD,
    "volumes": f"{_OWN_KEY} 'volumes', or {_POD}",
    "volume_mounts": f"{_OWN_KEY} 'volumes', or {_POD}",
    "container_resources": f"{_OWN_KEY} 'resources', or {_POD}",
    "init_containers": _POD,
    "config_file": "it would read a file of the worker; use 'kubernetes_conn_id'",
    "pod_template_file": f"it would read a file of the worker; {_POD}",
    "full_pod_spec": _POD,
    "pod_template_dict": _POD,
    "pod_runtime_info_envs": _POD,
    "termination_grace_period": "uploads of outputs need it; use 'stop_grace' for the program's own",
    "active_deadline_seconds": f"{_OWN_KEY} 'timeout'",
    "skip_on_exit_code": "a step that ends with an exit code other than 0 has failed; nothing to set",
    "do_xcom_push": _FILES,
    "xcom_sidecar_container_security_context": _FILES,
    "deferrable": "the deployment says it; [mlops] deferrable",
    "reattach_on_restart": _LIFE,
    "durable": _LIFE,
    "on_finish_action": _LIFE,
    "on_kill_action": _LIFE,
    "is_delete_operator_pod": _LIFE,
    "startup_timeout_seconds": "the deployment says it; [mlops] pod_start_patience",
    "schedule_timeout_seconds": "the deployment says it; [mlops] pod_start_patience",
    "startup_check_interval_seconds": _WATCHED,
    "base_container_status_polling_interval": _WATCHED,
    "poll_interval": _WATCHED,
    "logging_interval": _WATCHED,
    "trigger_kwargs": _WATCHED,
    "get_logs": "the program's output is always in the task's log; nothing to set",
    "init_container_logs": "the program's output is in the task's log; see others with kubectl",
    "container_logs": "the program's output is in the task's log; see others with kubectl",
    "container_name_log_prefix_enabled": "the program's output is in the task's log as it is; nothing to set",
    "log_formatter": "the program's output is in the task's log as it is; nothing to set",
    "log_events_on_failure": "what keeps a pod from running is in the step's message; nothing to set",
    "log_events_on_startup": "what keeps a pod from running is in the step's message; nothing to set",
    "log_pod_spec_on_failure": "it would print what the environment holds; nothing to set",
    "termination_message_policy": "why a program failed is in its output; nothing to set",
    "callbacks": f"{_OWN_KEY} 'callbacks'",
    "progress_callback": f"{_OWN_KEY} 'callbacks'",
}
"""Arguments that are not for a spec: why, and what to use instead."""

KUBERNETES_KEYWORDS = frozenset((*KUBERNETES_ALLOWED, "config_file", "pod_template_file"))
"""What our operators pass on to the provider's; an author of a DAG is trusted with files of the worker."""

_ALLOWED = {**KUBERNETES_ALLOWED, **KUBERNETES_OURS}


def check_kubernetes(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    What is wrong with a ``kubernetes:`` mapping.

    :return: name and problem
    """
    yield from check_keywords(arguments, _ALLOWED, KUBERNETES_RESERVED, "KubernetesPodOperator")
