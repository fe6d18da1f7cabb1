# SPDX-License-Identifier: Apache-2.0
"""Arguments of DockerOperator that a spec may hold."""

from __future__ import annotations

import inspect

import pytest

from airflow_mlops.spec.passthrough import DOCKER_ALLOWED, DOCKER_RESERVED, check_docker


@pytest.mark.airflow
def test_every_argument_of_the_installed_operator_is_in_exactly_one_table() -> None:
    operators = pytest.importorskip("airflow.providers.docker.operators.docker")
    parameters = inspect.signature(operators.DockerOperator.__init__).parameters
    known = {name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    assert known <= DOCKER_ALLOWED | set(DOCKER_RESERVED)
    assert not DOCKER_ALLOWED & set(DOCKER_RESERVED)


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
