# SPDX-License-Identifier: Apache-2.0
"""
Which arguments of DockerOperator a step's ``docker:`` may hold, and why the others are reserved.

A test holds both tables against the installed provider: each keyword is in exactly one of them, so that a new provider
version is looked at before a spec can use what it brought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DOCKER_ALLOWED: frozenset[str] = frozenset(
    (
        "api_version",
        "cap_add",
        "device_requests",
        "dns",
        "dns_search",
        "docker_conn_id",
        "docker_url",
        "entrypoint",
        "extra_hosts",
        "force_pull",
        "hostname",
        "ipc_mode",
        "log_opts_max_file",
        "log_opts_max_size",
        "network_mode",
        "port_bindings",
        "timeout",
        "tls_ca_cert",
        "tls_client_cert",
        "tls_client_key",
        "tls_hostname",
        "tls_ssl_version",
        "tls_verify",
        "tty",
        "ulimits",
        "user",
        "working_dir",
    )
)

_OURS = "it identifies the container, so that a retry finds it again"

DOCKER_RESERVED: Mapping[str, str] = {
    "image": "the step has a key of its own for it; use 'image'",
    "command": "the step has a key of its own for it; use 'command' or 'args'",
    "environment": "the step has a key of its own for it; use 'env'",
    "private_environment": "secrets are given by reference; use 'secrets'",
    "env_file": "a step's environment is written in the spec; use 'env' or 'secrets'",
    "mounts": "inputs and outputs are mounted by the step; use 'volumes' for others",
    "mount_tmp_dir": "the step has a scratch folder at /mlops/tmp; nothing to set",
    "host_tmp_dir": "the step has a scratch folder at /mlops/tmp; nothing to set",
    "tmp_dir": "the step has a scratch folder at /mlops/tmp; nothing to set",
    "auto_remove": "the exit code is read from the container before it goes; nothing to set",
    "container_name": f"{_OURS}; nothing to set",
    "labels": f"{_OURS}; nothing to set",
    "cpus": "the step has a key of its own for it; use 'resources: {cpu: …}'",
    "mem_limit": "the step has a key of its own for it; use 'resources: {memory: …}'",
    "shm_size": "the step has a key of its own for it; use 'resources: {shm: …}'",
    "retrieve_output": "results come from files; use 'outputs'",
    "retrieve_output_path": "results come from files; use 'outputs'",
    "xcom_all": "results come from files; use 'outputs'",
    "skip_on_exit_code": "a step that ends with an exit code other than 0 has failed; nothing to set",
    "privileged": "it would give a step the whole host; use 'cap_add' or 'device_requests' for what it really needs",
}
"""Arguments that are not for a spec: why, and what to use instead."""


def check_docker(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    What is wrong with the names of a ``docker:`` mapping.

    :return: name and problem
    """
    for name in arguments:
        if name in DOCKER_ALLOWED:
            continue
        if name in DOCKER_RESERVED:
            yield name, f"'{name}' is reserved: {DOCKER_RESERVED[name]}"
        else:
            allowed = sorted(DOCKER_ALLOWED)
            yield (
                name,
                f"unknown argument '{name}' of DockerOperator; expected {one_of(allowed)}{did_you_mean(name, allowed)}",
            )
