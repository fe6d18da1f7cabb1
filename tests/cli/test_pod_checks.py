# SPDX-License-Identifier: Apache-2.0
"""What ``validate`` finds wrong with pods without asking a cluster, and what it says where it asks one that does not answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow")
pytest.importorskip("airflow.providers.cncf.kubernetes")

from airflow_mlops.operators.settings import Settings
from airflow_mlops.spec import load_pipeline
from tests.cli.support import Terminal

HEAD = """\
apiVersion: mlops/v1
name: churn
params: {tag: {type: string}}
defaults: {runtime: kubernetes, image: "train:{{ params.tag }}", kubernetes: {namespace: ml}}
"""
OPEN: dict[str, Any] = {"allowed_namespaces": ("ml",)}


def found(folder: Path, steps: str, head: str = HEAD, runtime: str | None = None, **settings: Any) -> list[str]:
    """The problems of a spec as lines, without the name of its file."""
    from airflow_mlops.cli.pod_checks import problems_of

    file = folder / "churn.yaml"
    file.write_text(f"{head}steps:\n{steps}\n")
    problems = problems_of(load_pipeline(file, runtime=runtime), Settings("s3://b/x", **{**OPEN, **settings}))
    return [str(problem).removeprefix(f"{file}:") for problem in sorted(problems)]


def test_a_good_pod_has_no_problems_although_no_store_stager_or_value_is_known(tmp_path: Path) -> None:
    steps = """\
  - {name: data, kind: import, asset: raw, type: dataset}
  - {name: group, steps: [{name: fit, kind: container, command: ["{{ params.tag }}", "{{ inputs.raw.path }}"], inputs: {raw: data.dataset}}]}"""
    assert found(tmp_path, steps) == []
    assert found(tmp_path, steps, require_digest=True, stager_image="s@sha256:0") == [
        "4:66: step 'group.fit' runs image 'train:{{ params.tag }}', and [mlops] require_digest wants images by digest; "
        "expected a name such as python@sha256:…"
    ]


def test_unknown_fields_are_told_where_they_were_written(tmp_path: Path) -> None:
    steps = """\
  - name: fit
    kind: container
    command: ["true"]
    pod:
      spec:
        nodeSelectr: {a: b}
        containers:
          - {name: other, image: x}
          - {name: step, imagePullPolcy: Always}
    kubernetes: {container_security_context: {runAsUsr: 1}}"""
    tail = "; expected the names of Kubernetes' own manifests; did you mean"
    assert found(tmp_path, steps) == [
        f"11:9: step 'fit': no pod has a field spec.nodeSelectr{tail} 'nodeSelector'?",
        f"14:26: step 'fit': no pod has a field spec.containers[0].imagePullPolcy{tail} 'imagePullPolicy'?",
        f"15:47: step 'fit': no pod has a field spec.containers[0].securityContext.runAsUsr{tail} 'runAsUser'?",
    ]


def test_unknown_fields_of_keywords_are_told(tmp_path: Path) -> None:
    steps = """\
  - name: fit
    kind: container
    command: ["true"]
    kubernetes:
      affinity: {nodAffinity: {}}
      tolerations: [{key: gpu, operater: Exists}]
      dns_config: {nameserver: [a]}
    pod: {spec: {affinity: {podAffinty: {x: 1}}}}"""
    assert [problem.partition("; expected")[0] for problem in found(tmp_path, steps)] == [
        "11:32: step 'fit': no pod has a field spec.tolerations[0].operater",
        "12:20: step 'fit': no pod has a field spec.dnsConfig.nameserver",
        "13:29: step 'fit': no pod has a field spec.affinity.podAffinty",
    ]


def test_what_steps_have_from_defaults_is_told_once_and_there(tmp_path: Path) -> None:
    head = HEAD + "x-more: 1\n"
    head = head.replace("namespace: ml}}", "namespace: ml}, pod: {spec: {hostPIDs: true}}}")
    steps = """\
  - {name: a, kind: container, command: ["true"]}
  - {name: b, kind: container, command: ["true"]}"""
    (problem,) = found(tmp_path, steps, head)
    assert problem.startswith("4:108: step 'a': no pod has a field spec.hostPIDs;")
    assert problem.endswith("did you mean 'hostPID'?")


def test_what_the_deployment_refuses_is_told_all_in_one_go(tmp_path: Path) -> None:
    steps = """\
  - name: fit
    kind: container
    command: ["true"]
    kubernetes: {hostnetwork: true, service_account_name: powerful}
    pod: {spec: {volumes: [{name: v, nfs: {server: a, path: /}}]}}
  - {name: other, kind: container, command: ["true"], volumes: [{source: lake, target: /lake}]}"""
    said = found(tmp_path, steps, allowed_namespaces=(), allowed_runtimes=("docker",))
    assert [problem.partition(", which")[0] for problem in said] == [
        "4:21: step 'fit' runs in runtime 'kubernetes'",
        "4:90: step 'fit' asks for namespace 'ml'",
        "10:5: step 'fit' asks for service account 'powerful'",
        "10:5: step 'fit' asks for the host's network",
        "10:28: step 'fit' asks for a volume of kind 'nfs'; expected one of emptyDir, configMap, downwardAPI, secret, projected, ephemeral, "
        "persistentVolumeClaim, hostPath",
        "11:65: step 'other' asks for volume claim 'lake'",
    ]


def test_what_a_worker_would_refuse_is_told(tmp_path: Path) -> None:
    steps = """\
  - {name: a, kind: container, command: ["true"], pod: {metadata: {name: x, finalizers: [y]}}}
  - {name: b, kind: container, command: ["true"], pod: {spec: {containers: 5}}}"""
    first, second, third = found(tmp_path, steps)
    assert "step 'a': 'pod' sets metadata.finalizers" in first and "step 'a': 'pod' sets metadata.name" in second
    assert third.startswith("7:51: step 'b': 'kubernetes' and 'pod' make no pod:")


def test_a_runtime_given_on_the_command_line_makes_pods_of_all_programs(tmp_path: Path) -> None:
    head = HEAD.replace("runtime: kubernetes", "runtime: docker")
    steps = '  - {name: a, kind: container, command: ["true"], pod: {spec: {hostPID: true}}}'
    assert found(tmp_path, steps, head) == []
    assert found(tmp_path, steps, head, runtime="kubernetes") == [
        "6:51: step 'a' asks for the host's processes (hostPID), which no step is given"
    ]


POD = (
    HEAD
    + 'environments: {prod: {defaults: {pod: {spec: {hostPID: true}}}}}\nsteps: [{name: a, kind: container, command: ["true"]}]\n'
)


@pytest.mark.slow
def test_the_command_checks_the_pods_of_all_environments(tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(POD)
    user = Terminal(tmp_path)
    said = user.run("validate", "churn.yaml")
    assert (said.code, said.err) == (2, "")
    assert said.out.startswith("churn.yaml:5:34: step 'a' asks for the host's processes (hostPID)")
    said = user.run("validate", "churn.yaml", "--dry-run", "none")
    assert (said.code, said.out) == (0, "PASS churn.yaml (churn, 1 step)\n")


LOADED = "import sys; from airflow_mlops.cli.main import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"


@pytest.mark.parametrize("words", [("docker.yaml",), ("pod.yaml", "--dry-run=none"), ("pod.yaml", "--runtime=docker")])
def test_without_pods_to_look_at_nothing_heavy_is_imported(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "docker.yaml").write_text(POD.replace("runtime: kubernetes", "runtime: docker"))
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "validate", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not {"airflow", "kubernetes"} & set(done.stdout.split())


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


def kubeconfig(folder: Path, port: int) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(content))
    return str(file)


@pytest.mark.slow
def test_a_server_that_does_not_answer_makes_no_spec_bad_and_does_not_hold_anybody_up(
    tmp_path: Path, silent_server: int
) -> None:
    steps = "steps:\n" + "".join(f'  - {{name: s{n}, kind: container, command: ["true"]}}\n' for n in range(9))
    (tmp_path / "churn.yaml").write_text(HEAD + steps)
    user = Terminal(tmp_path)
    began = time.monotonic()
    user.run("validate", "churn.yaml")
    without = time.monotonic() - began
    for port, reason in ((1, "Connection refused"), (silent_server, "timed out")):
        began = time.monotonic()
        said = user.run("validate", "churn.yaml", "--dry-run=server", KUBECONFIG=kubeconfig(tmp_path, port))
        assert time.monotonic() - began - without < 12
        assert (said.code, said.out) == (2, "PASS churn.yaml (churn, 9 steps, 9 pods: no cluster has looked at them)\n")
        assert said.err.startswith(f"the Kubernetes API server at https://127.0.0.1:{port} cannot be asked: ")
        assert reason in said.err and said.err.endswith("; whether the pods would be taken is not known\n")


@pytest.mark.slow
def test_a_machine_that_knows_no_cluster_says_so(tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(HEAD + 'steps: [{name: a, kind: container, command: ["true"]}]\n')
    said = Terminal(tmp_path).run("validate", "churn.yaml", "--dry-run=server", KUBECONFIG=str(tmp_path / "none"))
    assert (said.code, said.out) == (2, "PASS churn.yaml (churn, 1 step, 1 pod: no cluster has looked at it)\n")
    assert "no Kubernetes cluster is known here" in said.err and "kubeconfig (KUBECONFIG)" in said.err
