# SPDX-License-Identifier: Apache-2.0
"""What a deployment allows a pod, and what of a pod a step may not touch."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow_mlops.operators.failures import BadStep, PolicyViolation
from airflow_mlops.operators.kubernetes_patch import patch_of
from airflow_mlops.operators.kubernetes_pod import merged
from airflow_mlops.operators.policy_pods import check_pod
from airflow_mlops.operators.settings import Settings

STEP: Any = SimpleNamespace(task_id="fit", pod_keywords={})
SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD: dict[str, Any] = {
    "metadata": {"name": "mlops-1"},
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "stage-in", "image": "stager", "securityContext": SAFE}],
        "containers": [{"name": "step", "image": "busybox:1", "securityContext": SAFE}],
    },
}


def changed(spec: dict[str, Any]) -> dict[str, Any]:
    """The pod with something merged into its specification."""
    pod: dict[str, Any] = merged(copy.deepcopy(POD), {"spec": spec})
    return pod


def step(**keys: Any) -> dict[str, Any]:
    return {"containers": [{"name": "step", **keys}]}


def variable(name: str, key: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def test_a_plain_pod_passes() -> None:
    check_pod(STEP, Settings("s3://b"), POD)


@pytest.mark.parametrize(
    ("spec", "setting", "opened"),
    [
        ({"hostNetwork": True}, "allowed_networks", "host"),
        ({"hostIPC": True}, "allowed_ipc_modes", "host"),
        (step(ports=[{"containerPort": 80, "hostPort": 80}]), "allowed_networks", "host"),
        (step(securityContext={"capabilities": {"add": ["NET_ADMIN"]}}), "allowed_capabilities", "NET_ADMIN"),
        ({"securityContext": {"runAsUser": 0}}, "allowed_users", "root"),
        (step(securityContext={"runAsNonRoot": False}), "allowed_users", "root"),
        ({"serviceAccountName": "trainer"}, "allowed_service_accounts", "train*"),
        ({"automountServiceAccountToken": True}, "allowed_service_accounts", "default"),
        ({"automountServiceAccountToken": None}, "allowed_service_accounts", "default"),
        ({"securityContext": {"runAsNonRoot": None}}, "allowed_users", "root"),
        (step(securityContext={"capabilities": None}), "allowed_capabilities", "DEFAULT"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "lake"}}]}, "allowed_volumes", "lake"),
        (
            {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "allowed_service_accounts",
            "default",
        ),
        ({"volumes": [{"name": "k", "secret": {"secretName": "hub"}}]}, "allowed_secrets", "hub"),
        (
            {"volumes": [{"name": "k", "projected": {"sources": [{"secret": {"name": "hub"}}]}}]},
            "allowed_secrets",
            "hub",
        ),
        (step(envFrom=[{"secretRef": {"name": "hub"}}]), "allowed_secrets", "hub"),
        (step(env=[variable("hub", "token")]), "allowed_secrets", "hub"),
    ],
)
def test_what_is_not_listed_is_refused_with_the_name_of_its_setting(
    spec: dict[str, Any], setting: str, opened: str
) -> None:
    with pytest.raises(PolicyViolation, match=rf"step 'fit' asks for .* \[mlops\] {setting} \(now: none\)"):
        check_pod(STEP, Settings("s3://b"), changed(spec))
    check_pod(STEP, Settings("s3://b", **{setting: (opened,)}), changed(spec))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"hostPID": True}, "hostPID"),
        ({"shareProcessNamespace": True}, "shareProcessNamespace"),
        (step(securityContext={"privileged": True}), "may gain privileges"),
        (step(securityContext={"allowPrivilegeEscalation": True}), "may gain privileges"),
        ({"containers": [{"name": "other", "image": "x"}]}, "container 'other' may gain privileges"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        (step(securityContext={"procMount": "Unmasked"}), "kernel's settings"),
        ({"securityContext": {"seccompProfile": None}}, "has no seccompProfile"),
        ({"volumes": [{"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io"}}]}, "a volume of kind 'csi'"),
        ({"volumes": [{"name": "v", "nfs": {"server": "a", "path": "/"}}]}, "a volume of kind 'nfs'"),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/etc"}}]}, "allowed_volumes"),
        # The pod's own secret holds the store's credentials, which the stager alone sees.
        (step(env=[variable("mlops-1", "stager.AWS_SECRET_ACCESS_KEY")]), "asks for secret 'mlops-1'"),
        ({"volumes": [{"name": "k", "secret": {"secretName": "mlops-1"}}]}, "asks for secret 'mlops-1'"),
    ],
)
def test_what_no_step_is_given_is_refused(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyViolation, match=said):
        check_pod(STEP, Settings("s3://b"), changed(spec))


def test_its_own_secrets_are_a_steps() -> None:
    files = {"secretName": "mlops-1", "items": [{"key": "file.KEY", "path": "KEY"}]}
    mine = step(env=[variable("mlops-1", "env.TOKEN")]) | {"volumes": [{"name": "k", "secret": files}]}
    stager = {"initContainers": [{"name": "stage-in", "env": [variable("mlops-1", "stager.AWS_ACCESS_KEY_ID")]}]}
    check_pod(STEP, Settings("s3://b"), changed({**mine, **stager}))


def test_images_by_name_are_refused_where_digests_are_wanted() -> None:
    with pytest.raises(PolicyViolation, match="require_digest"):
        check_pod(STEP, Settings("s3://b", require_digest=True), POD)


@pytest.mark.parametrize(
    ("pod", "keywords", "said"),
    [
        ({"metadata": {"finalizers": []}}, {}, "sets metadata.finalizers"),
        ({"metadata": {"labels": {"mlops.airflow/attempt": "x"}}}, {}, "is our own"),
        ({}, {"annotations": {"mlops.airflow/try": "9"}}, "is our own"),
        ({"spec": {"initContainers": [{"name": "stage-out", "image": "evil"}]}}, {}, "changes container 'stage-out'"),
        ({"spec": {"volumes": [{"name": "mlops", "emptyDir": {}}]}}, {}, "changes volume 'mlops'"),
        (
            {"spec": step(volumeMounts=[{"name": "mlops-shared-0", "mountPath": "/x"}])},
            {},
            "mounts volume 'mlops-shared-0'",
        ),
        ({"spec": step(command=["ls"])}, {}, "sets command of container 'step'"),
        ({"spec": step(image="other:1")}, {}, "sets image of container 'step'"),
        (
            {"spec": {"containers": [{"name": "stp", "resources": {}}]}},
            {},
            "container 'stp' without an image.*did you mean 'step'",
        ),
        ({"spec": []}, {}, "expected mappings"),
        ({"metadata": "x"}, {}, "expected mappings"),
    ],
)
def test_what_a_retry_and_the_files_need_is_not_a_steps_to_change(
    pod: dict[str, Any], keywords: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadStep, match=said):
        patch_of(SimpleNamespace(task_id="fit", pod=pod, pod_keywords=keywords))  # type: ignore[arg-type]


def test_resources_of_the_stager_can_be_set() -> None:
    pod = {"spec": {"initContainers": [{"name": "stage-out", "resources": {"limits": {"memory": "4Gi"}}}]}}
    assert patch_of(SimpleNamespace(task_id="fit", pod=pod, pod_keywords={})) == pod  # type: ignore[arg-type]


def test_a_security_context_by_keyword_adds_to_what_every_pod_is_given() -> None:
    keywords = {"security_context": {"fsGroup": 2000}, "container_security_context": {"runAsUser": 1001}}
    patch = patch_of(SimpleNamespace(task_id="fit", pod=None, pod_keywords=keywords))  # type: ignore[arg-type]
    pod: dict[str, Any] = merged(POD, patch)
    assert pod["spec"]["securityContext"] == POD["spec"]["securityContext"] | {"fsGroup": 2000}
    assert pod["spec"]["containers"][0]["securityContext"] == SAFE | {"runAsUser": 1001}
    check_pod(STEP, Settings("s3://b"), pod)


def test_a_namespace_that_is_not_listed_is_refused() -> None:
    elsewhere: Any = SimpleNamespace(task_id="fit", pod_keywords={"namespace": "kube-system"})
    with pytest.raises(PolicyViolation, match="allowed_namespaces"):
        check_pod(elsewhere, Settings("s3://b", allowed_namespaces=("ml",)), POD)
    check_pod(elsewhere, Settings("s3://b", allowed_namespaces=("kube-*",)), POD)


def test_a_patch_merges_by_name_and_null_removes() -> None:
    base = {
        "a": 1,
        "containers": [{"name": "step", "env": [{"name": "A", "value": "1"}], "args": ["x"]}],
        "b": {"c": 1},
        "schedulingGates": [{"name": "mlops.airflow/start"}],
    }
    patch = {
        "a": None,
        "schedulingGates": [{"name": "example.com/budget"}],
        "containers": [{"name": "step", "env": [{"name": "B", "value": "2"}], "args": ["y"]}, {"name": "new"}],
    }
    assert merged(base, patch) == {
        "b": {"c": 1},
        "containers": [
            {"name": "step", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["y"]},
            {"name": "new"},
        ],
        "schedulingGates": [{"name": "mlops.airflow/start"}, {"name": "example.com/budget"}],
    }
