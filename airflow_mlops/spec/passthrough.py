# SPDX-License-Identifier: Apache-2.0
"""
Which arguments of DockerOperator a step's ``docker:`` may hold, and why the others are reserved.

A test holds both tables against the installed provider: each keyword is in exactly one of them, so that a new provider
version is looked at before a spec can use what it brought.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.forms import cut
from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    _Form = tuple[str, Callable[[Any], bool]]

_LIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)
"""Resource limits of Linux (getrlimit(2))."""

_TEXT: _Form = ("a string", lambda value: isinstance(value, str) and value != "")
_FLAG: _Form = ("true or false", lambda value: isinstance(value, bool))
_SECONDS: _Form = ("a number of seconds", lambda value: _is_integer(value) and value > 0)
_COUNT: _Form = (
    "an integer above zero, or one as a string",
    lambda value: re.fullmatch("0*[1-9][0-9]{0,8}", str(value)) is not None,
)
_TEXTS: _Form = ("a list of strings", lambda value: isinstance(value, list) and all(map(_TEXT[1], value)))
_WORDS: _Form = ("a list of strings, or one string", lambda value: _TEXT[1](value) or _TEXTS[1](value))
_USER: _Form = (
    "a user such as 1000 or '1000:1000'",
    lambda value: _TEXT[1](value) or (_is_integer(value) and value >= 0),
)
_BY_NAME: _Form = ("a mapping of strings", lambda value: isinstance(value, dict) and all(map(_TEXT[1], value.values())))
_MAPPING: _Form = ("a mapping", lambda value: isinstance(value, dict))
_MAPPINGS: _Form = (
    "a list of mappings",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
)
_ULIMITS: _Form = (
    "a list such as [{name: nofile, soft: 1024, hard: 4096}]",
    lambda value: isinstance(value, list) and all(map(_is_ulimit, value)),
)

DOCKER_ALLOWED: Mapping[str, _Form] = {
    "api_version": _TEXT,
    "cap_add": _TEXTS,
    "device_requests": _MAPPINGS,
    "dns": _TEXTS,
    "dns_search": _TEXTS,
    "docker_conn_id": _TEXT,
    "docker_url": _WORDS,
    "entrypoint": _WORDS,
    "extra_hosts": _BY_NAME,
    "force_pull": _FLAG,
    "hostname": _TEXT,
    "ipc_mode": _TEXT,
    "log_opts_max_file": _COUNT,
    "log_opts_max_size": _TEXT,
    "network_mode": _TEXT,
    "port_bindings": _MAPPING,
    "timeout": _SECONDS,
    "tls_ca_cert": _TEXT,
    "tls_client_cert": _TEXT,
    "tls_client_key": _TEXT,
    "tls_hostname": _TEXT,
    "tls_ssl_version": _TEXT,
    "tls_verify": _FLAG,
    "tty": _FLAG,
    "ulimits": _ULIMITS,
    "user": _USER,
    "working_dir": _TEXT,
}
"""Arguments that a spec may hold, and the form of each: in words, and as a check."""

DOCKER_OURS: Mapping[str, _Form] = {"docker_host_conn_id": _TEXT}
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
        elif name in _ALLOWED:
            words, holds = _ALLOWED[name]
            if value is not None and not holds(value):
                yield name, f"'{name}' is {cut(value)}; expected {words}"
        elif name in DOCKER_RESERVED:
            yield name, f"'{name}' is reserved: {DOCKER_RESERVED[name]}"
        else:
            allowed = sorted(_ALLOWED)
            yield (
                name,
                f"unknown argument '{name}' of DockerOperator; expected {one_of(allowed)}{did_you_mean(name, allowed)}",
            )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ulimit(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    fields = {str(key).lower(): item for key, item in value.items()}  # the client takes 'name' and 'Name'
    limits = {key: fields[key] for key in ("soft", "hard") if key in fields}
    if len(fields) < len(value) or not all(map(_is_integer, limits.values())):
        return False
    unlimited = limits.get("hard", -1) < 0
    return (
        fields.keys() <= {"name", "soft", "hard"}
        and fields.get("name") in _LIMITS
        and (unlimited or limits.get("soft", 0) <= limits["hard"])
    )
