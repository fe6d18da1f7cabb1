# SPDX-License-Identifier: Apache-2.0
"""
Which arguments of DockerOperator a step's ``docker:`` may hold, and why the others are reserved.

A test holds both tables against the installed provider: each keyword is in exactly one of them, so that a new provider
version is looked at before a spec can use what it brought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.keyword_forms import (
    BY_NAME,
    COUNT,
    FLAG,
    MAPPING,
    MAPPINGS,
    SECONDS,
    TEXT,
    TEXTS,
    ULIMITS,
    USER,
    WORDS,
    Form,
    check_keywords,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DOCKER_ALLOWED: Mapping[str, Form] = {
    "api_version": TEXT,
    "cap_add": TEXTS,
    "device_requests": MAPPINGS,
    "dns": TEXTS,
    "dns_search": TEXTS,
    "docker_conn_id": TEXT,
    "docker_url": WORDS,
    "entrypoint": WORDS,
    "extra_hosts": BY_NAME,
    "force_pull": FLAG,
    "hostname": TEXT,
    "ipc_mode": TEXT,
    "log_opts_max_file": COUNT,
    "log_opts_max_size": TEXT,
    "network_mode": TEXT,
    "port_bindings": MAPPING,
    "timeout": SECONDS,
    "tls_ca_cert": TEXT,
    "tls_client_cert": TEXT,
    "tls_client_key": TEXT,
    "tls_hostname": TEXT,
    "tls_ssl_version": TEXT,
    "tls_verify": FLAG,
    "tty": FLAG,
    "ulimits": ULIMITS,
    "user": USER,
    "working_dir": TEXT,
}
"""Arguments that a spec may hold, and the form of each: in words, and as a check."""

DOCKER_OURS: Mapping[str, Form] = {"docker_host_conn_id": TEXT}
"""Arguments of our own operators that a spec may hold there as well."""

_IN_THE_CONNECTION = ("docker_url", "tls_ca_cert", "tls_client_cert", "tls_client_key", "tls_hostname", "tls_verify")
"""What the connection of ``docker_host_conn_id`` says in their place."""

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

_ALLOWED = {**DOCKER_ALLOWED, **DOCKER_OURS}


def check_docker(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    What is wrong with a ``docker:`` mapping.

    :return: name and problem
    """
    for name, value in arguments.items():
        if name == "port_bindings" and arguments.get("network_mode") == "host":
            yield name, "'port_bindings' means nothing in the host's network; expected one of the two"
        elif name in _IN_THE_CONNECTION and arguments.get("docker_host_conn_id") is not None and value is not None:
            yield name, f"'{name}' is what the connection of 'docker_host_conn_id' says; expected one of the two"
        else:
            yield from check_keywords({name: value}, _ALLOWED, DOCKER_RESERVED, "DockerOperator")
