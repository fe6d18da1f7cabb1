# SPDX-License-Identifier: Apache-2.0
"""
``validate --dry-run=server`` on a real API server, in a namespace under the restricted profile; the account has the documented role alone.

(What it says where none answers is in ``test_pod_checks.py``.)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.support import Said, Terminal

if TYPE_CHECKING:
    from tests.parts.namespace import Namespace

pytestmark = [pytest.mark.slow]

HEAD = """\
apiVersion: mlops/v1
name: churn
defaults: {runtime: kubernetes, image: "mlops-busybox:1", kubernetes: {namespace: NAMESPACE}}
steps:
"""
SET = {"AIRFLOW__MLOPS__STORE": "s3://bucket/store", "AIRFLOW__MLOPS__STAGER_IMAGE": "mlops-stager:1"}
GOOD = '  - {name: good, kind: container, command: ["true"]}\n'
REFUSED = """\
  - {name: root, kind: container, command: ["true"], pod: {spec: {securityContext: {runAsNonRoot: false, runAsUser: 0}}}}
  - {name: elsewhere, kind: container, command: ["true"], kubernetes: {namespace: default}}
  - {name: odd, kind: container, command: ["true"], kubernetes: {tolerations: [{key: gpu, operator: Like}]}}
"""


def asked(
    folder: Path, namespace: Namespace, steps: str, kubeconfig: Path, settings: dict[str, str] | None = None
) -> Said:
    """What is said of a spec in a namespace."""
    (folder / "churn.yaml").write_text(HEAD.replace("NAMESPACE", namespace.name) + steps)
    words = ("validate", "churn.yaml", "--dry-run=server")
    return Terminal(folder).run(*words, KUBECONFIG=str(kubeconfig), **(SET if settings is None else settings))


def test_an_api_server_that_would_take_the_pods_is_asked_and_creates_none(namespace: Namespace, tmp_path: Path) -> None:
    said = asked(tmp_path, namespace, GOOD, namespace.kubeconfig)
    url = namespace.cluster.url
    assert (said.code, said.out, said.err) == (
        0,
        f"PASS churn.yaml (churn, 1 step, 1 pod: {url} would take it)\n",
        "",
    )
    assert namespace.left() == []
    # A rule about images would have been asked about one that is not the deployment's.
    said = asked(tmp_path, namespace, GOOD, namespace.kubeconfig, settings={})
    assert said.code == 0 and "[mlops] stager_image is not set here: <stager image> stands for it\n" in said.err


def test_what_the_server_refuses_is_told_in_its_words_for_each_step(namespace: Namespace, tmp_path: Path) -> None:
    said = asked(tmp_path, namespace, GOOD + REFUSED, namespace.kubeconfig)
    assert (said.code, said.err) == (2, "")
    root, elsewhere, odd = said.out.splitlines()
    refuses = "the Kubernetes API server refuses its pod in namespace"
    assert root.startswith(
        f"churn.yaml:6:5: step 'root': {refuses} '{namespace.name}': pods \"mlops-<attempt>\" is forbidden: "
        'violates PodSecurity "restricted:latest": '
    )
    assert "runAsNonRoot" in root and "runAsUser=0" in root
    assert elsewhere.startswith(
        f"churn.yaml:7:5: step 'elsewhere': {refuses} 'default': pods is forbidden: "
        f'User "system:serviceaccount:{namespace.name}:airflow" cannot create resource "pods"'
    )
    assert odd.startswith(
        f"churn.yaml:8:5: step 'odd': {refuses} '{namespace.name}': Pod \"mlops-<attempt>\" is invalid: "
    )
    assert 'spec.tolerations[0].operator: Unsupported value: "Like"' in odd
    assert namespace.left() == []


def test_quotas_and_namespaces_that_are_not_there_are_told(namespace: Namespace, tmp_path: Path) -> None:
    quota = {"metadata": {"name": "none", "namespace": namespace.name}, "spec": {"hard": {"pods": "0"}}}
    namespace.cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    nowhere = '  - {name: nowhere, kind: container, command: ["true"], kubernetes: {namespace: nonesuch}}\n'
    # Whether a namespace is there is told to those alone who may use it.
    said = asked(tmp_path, namespace, GOOD + nowhere, namespace.cluster.kubeconfig)
    first, second = said.out.splitlines()
    assert "step 'good'" in first and "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0" in first
    assert "step 'nowhere'" in second and second.endswith('namespaces "nonesuch" not found')
    assert namespace.left() == []


def test_a_token_that_is_not_valid_makes_no_spec_bad(namespace: Namespace, tmp_path: Path) -> None:
    stranger = namespace.cluster.kubeconfig_of(tmp_path / "stranger", "of-nobody")
    said = asked(tmp_path, namespace, GOOD, stranger)
    assert (said.code, said.out) == (2, "PASS churn.yaml (churn, 1 step, 1 pod: no cluster has looked at it)\n")
    assert said.err.startswith(f"the Kubernetes API server at {namespace.cluster.url} cannot be asked: Unauthorized")
