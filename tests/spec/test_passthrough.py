# SPDX-License-Identifier: Apache-2.0
"""Arguments of DockerOperator that a spec may hold."""

from __future__ import annotations

import pytest

from airflow_mlops.spec.passthrough import DOCKER_ALLOWED, DOCKER_OURS, DOCKER_RESERVED, check_docker
from tests.spec.support import keywords_of


@pytest.mark.airflow
def test_every_argument_of_the_installed_operator_is_in_exactly_one_table() -> None:
    operators = pytest.importorskip("airflow.providers.docker.operators.docker")
    known = keywords_of(operators.DockerOperator)
    assert known <= set(DOCKER_ALLOWED) | set(DOCKER_RESERVED)
    assert not set(DOCKER_ALLOWED) & set(DOCKER_RESERVED)
    assert not known & set(DOCKER_OURS)


@pytest.mark.parametrize("name", ["docker_url", "tls_ca_cert", "tls_client_key"])
def test_a_connection_of_the_daemon_excludes_what_it_says(name: str) -> None:
    assert not list(check_docker({"docker_host_conn_id": "trainer", "docker_conn_id": "registry"}))
    said = dict(check_docker({"docker_host_conn_id": "trainer", name: "tcp://a:1"}))
    assert said == {name: f"'{name}' is what the connection of 'docker_host_conn_id' says; expected one of the two"}


def test_every_reserved_argument_says_what_to_do() -> None:
    assert all("; " in reason for reason in DOCKER_RESERVED.values())


def test_reserved_and_unknown_arguments_are_refused_by_name() -> None:
    found = dict(check_docker({"network_mode": "none", "mem_limit": "1g", "netwrk_mode": "x"}))
    assert (
        found["mem_limit"]
        == "'mem_limit' is reserved: the step has a key of its own for it; use 'resources: {memory: …}'"
    )
    assert found["netwrk_mode"].endswith("did you mean 'network_mode'?")
    assert "network_mode" not in found


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("user", ["1000"], "a user such as 1000 or '1000:1000'"),
        ("network_mode", 1, "a string"),
        ("entrypoint", {"a": 1}, "a list of strings, or one string"),
        ("ulimits", [{"nofile": 1}], "a list such as [{name: nofile, soft: 1024, hard: 4096}]"),
        ("ulimits", {"nofile": 1}, "a list such as"),
        ("ulimits", [{"name": "nofile", "soft": 5, "hard": 1}], "a list such as"),
        ("ulimits", [{"name": "nofile", "Name": "core"}], "a list such as"),
        ("ulimits", [{"name": "bogus", "soft": 1}], "a list such as"),
        ("log_opts_max_file", "\u00b2", "an integer above zero"),
        ("dns", "10.0.0.1", "a list of strings"),
        ("tty", "yes", "true or false"),
        ("timeout", 0, "a number of seconds"),
        ("log_opts_max_file", "x", "an integer above zero"),
        ("extra_hosts", {"a": 1}, "a mapping of strings"),
        ("device_requests", [1], "a list of mappings"),
        ("port_bindings", [80], "a mapping"),
    ],
)
def test_argument_of_another_form_is_refused(name: str, value: object, said: str) -> None:
    assert said in dict(check_docker({name: value}))[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("user", 1000), ("user", "app"), ("ulimits", [{"name": "core", "soft": 0, "hard": 0}]), ("entrypoint", "sh -c"),
     ("docker_url", ["tcp://a:1", "tcp://b:1"]), ("log_opts_max_file", "3"), ("dns", ["10.0.0.1"]), ("tls_verify", False),
     ("device_requests", [{"count": 1, "capabilities": [["gpu"]]}]), ("network_mode", None)],
)  # fmt: skip
def test_argument_of_the_right_form_passes(name: str, value: object) -> None:
    assert not list(check_docker({name: value}))
