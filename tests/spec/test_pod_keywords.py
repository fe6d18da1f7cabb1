# SPDX-License-Identifier: Apache-2.0
"""Arguments of KubernetesPodOperator that a spec may hold."""

from __future__ import annotations

import pytest

from airflow_mlops.spec.pod_keywords import (
    KUBERNETES_ALLOWED,
    KUBERNETES_OURS,
    KUBERNETES_RESERVED,
    check_kubernetes,
)
from tests.spec.support import keywords_of


@pytest.mark.airflow
def test_every_argument_of_the_installed_operator_is_in_exactly_one_table() -> None:
    operators = pytest.importorskip("airflow.providers.cncf.kubernetes.operators.pod")
    known = keywords_of(operators.KubernetesPodOperator)
    assert known <= set(KUBERNETES_ALLOWED) | set(KUBERNETES_RESERVED)
    assert not set(KUBERNETES_ALLOWED) & set(KUBERNETES_RESERVED)
    assert not known & set(KUBERNETES_OURS)


def test_every_reserved_argument_says_what_to_do() -> None:
    assert all("; " in reason or "use 'pod'" in reason for reason in KUBERNETES_RESERVED.values())


def test_reserved_and_unknown_arguments_are_refused_by_name() -> None:
    found = dict(check_kubernetes({"namespace": "ml", "cmds": ["x"], "namespce": "x", "gpu_resource": "amd.com/gpu"}))
    assert found["cmds"] == "'cmds' is reserved: the step has a key of its own for it; use 'command'"
    assert found["namespce"].endswith("did you mean 'namespace'?")
    assert found.keys() == {"cmds", "namespce"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("namespace", 1, "a string"),
        ("tolerations", {"key": "gpu"}, "a list of mappings"),
        ("node_selector", {"gpu": True}, "a mapping of strings"),
        ("image_pull_secrets", ["hub"], "a list of mappings"),
        ("in_cluster", "yes", "true or false"),
    ],
)
def test_argument_of_another_form_is_refused(name: str, value: object, said: str) -> None:
    assert said in dict(check_kubernetes({name: value}))[name]
