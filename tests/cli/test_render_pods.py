# SPDX-License-Identifier: Apache-2.0
"""``render`` of steps on Kubernetes: in processes of their own, since Airflow reads its settings when it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.support import Said, Terminal

pytest.importorskip("airflow")
pytest.importorskip("airflow.providers.cncf.kubernetes")

pytestmark = pytest.mark.slow

SPEC = """\
apiVersion: mlops/v1
name: churn
params: {tag: {type: string}}
source: ./src
defaults: {runtime: kubernetes, image: "train:{{ params.tag }}"}
steps:
  - {name: data, kind: import, uri: "s3://lake/{{ run.date }}/raw.csv", type: dataset}
  - {name: local, kind: import, uri: file:///data/local.csv, type: dataset}
  - name: prepare
    steps:
      - name: split
        kind: preprocess
        inputs: {raw: data.dataset}
        command: [sh, split.sh]
        outputs: {train: {type: dataset, file: t.csv}, rows: integer}
  - name: fit
    kind: train
    inputs: {train: prepare/split.train, raw: data.dataset, local: local.dataset, rows: prepare/split.rows}
    command: [sh, -c, "echo {{ inputs.rows }}\\ncat {{ inputs.train.path }} {{ inputs.train.uri }}"]
    args: ["{{ run.id }}"]
    secrets: {TOKEN: {variable: hub, as: env}, KEY: {variable: key}}
    resources: {cpu: 1.5, gpu: 1}
    kubernetes: {namespace: ml, gpu_resource: amd.com/gpu, labels: {team: churn}}
    pod: {spec: {nodeSelector: {disk: fast}}}
    checkpoint: true
    outputs: {model: model}
"""
SETTINGS = {
    "STORE": "s3://acme/mlops",
    "STORAGE_OPTIONS": json.dumps(
        {"key": "sesame-id", "secret": "sesame-key", "endpoint_url": "http://s3.example:9000"}
    ),
    "STAGER_IMAGE": "registry.example/stager:1",
}


def in_a_home(folder: Path) -> Terminal:
    """A user whose home has the spec in it."""
    (folder / "src").mkdir(parents=True)
    for name in ("split.sh", "fit.sh"):
        (folder / "src" / name).touch()
    (folder / "churn.yaml").write_text(SPEC)
    return Terminal(folder)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """What ``render`` prints where an object store is set, and nobody reaches a cluster."""
    user = in_a_home(tmp_path_factory.mktemp("home"))
    environment = {f"AIRFLOW__MLOPS__{name}": value for name, value in SETTINGS.items()}
    return user.run("render", "churn.yaml", "fit", "-p", "tag=7", KUBECONFIG="/nonexistent", **environment)


@pytest.fixture
def pod(said: Said) -> dict[str, Any]:
    assert said.code == 0, said.err
    found: dict[str, Any] = yaml.safe_load(said.out)
    return found


def named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def test_a_step_on_kubernetes_is_its_pod(said: Said, pod: dict[str, Any]) -> None:
    assert said.err == ""
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    metadata, spec = pod["metadata"], pod["spec"]
    assert (metadata["name"], metadata["namespace"]) == ("mlops-<attempt>", "ml")
    labels = {"mlops.airflow/run": "<run>", "mlops.airflow/task": "fit", "team": "churn", "run_id": "<run>"}
    assert labels.items() <= metadata["labels"].items()
    assert metadata["labels"]["mlops.airflow/task-instance"] == "<digest of the task instance>"
    step = named(spec["containers"], "step")
    assert (step["image"], step["workingDir"], step["args"]) == ("train:7", "/mlops/source", ["<run>"])
    assert step["resources"]["limits"] == {"cpu": "1500m", "amd.com/gpu": "1"}
    assert spec["nodeSelector"] == {"disk": "fast"}
    # What the provider's operator says of its own accord is there as well.
    assert step["terminationMessagePolicy"] == "File"
    assert metadata["labels"]["kubernetes_pod_operator"] == "True"


def test_what_a_run_alone_knows_has_placeholders(pod: dict[str, Any]) -> None:
    step = named(pod["spec"]["containers"], "step")
    assert step["command"][2] == "echo <prepare/split.rows>\ncat /mlops/inputs/train/t.csv <uri of prepare/split.train>"
    stager = named(pod["spec"]["initContainers"], "stage-in")
    job = json.loads(named(stager["env"], "MLOPS_STAGER_JOB")["value"])
    bucket = "s3://acme?region=us-east-1&endpoint=http%3A%2F%2Fs3.example%3A9000&use_path_style=true"
    keys = {item["path"]: (item["bucket"], item["key"]) for item in job["in"]}
    assert keys == {
        "train/t.csv": (
            bucket,
            "mlops/<instance>/churn/<run>/prepare.split/-/1/<attempt of prepare/split>/outputs/train/t.csv",
        ),
        "raw": (bucket.replace("acme", "lake"), "<date>/raw.csv"),
        "local": (bucket, "mlops/<instance>/churn/<run>/fit/-/1/<attempt>/staged/local"),
    }
    assert job["source"]["digest"] == "sha256:<digest of the code>"
    assert job["checkpoint"]["key"] == "mlops/<instance>/churn/<run>/fit/-/1/checkpoint"


def test_secrets_are_shown_by_reference_alone(said: Said, pod: dict[str, Any]) -> None:
    assert "sesame" not in said.out
    step = named(pod["spec"]["containers"], "step")
    assert named(step["env"], "TOKEN")["valueFrom"]["secretKeyRef"] == {"key": "env.TOKEN", "name": "mlops-<attempt>"}
    secret = named(pod["spec"]["volumes"], "mlops-secret")["secret"]
    assert (secret["secretName"], secret["items"]) == ("mlops-<attempt>", [{"key": "file.KEY", "path": "KEY"}])
    stager = named(pod["spec"]["initContainers"], "stage-out")
    reference = named(stager["env"], "AWS_SECRET_ACCESS_KEY")["valueFrom"]["secretKeyRef"]
    assert reference == {"key": "stager.AWS_SECRET_ACCESS_KEY", "name": "mlops-<attempt>"}


def test_texts_of_several_lines_are_blocks_and_others_stay_in_one_piece(said: Said) -> None:
    assert "- |-\n          echo <prepare/split.rows>\n          cat /mlops/inputs/train/t.csv" in said.out
    assert sum(line.lstrip().startswith('value: \'{"version":2') for line in said.out.splitlines()) == 2


def test_what_is_not_set_here_is_assumed_and_said(tmp_path: Path) -> None:
    user = in_a_home(tmp_path)
    said = user.run("render", "churn.yaml", "prepare/split", "-p", "tag=7")
    assert said.code == 0, said.err
    assert "no store that pods see is set here" in said.err and "[mlops] stager_image is not set here" in said.err
    pod = yaml.safe_load(said.out)
    assert pod["metadata"]["namespace"] == "<namespace>"
    assert named(pod["spec"]["initContainers"], "stage-in")["image"] == "<stager image>"
    assert not [file.name for file in user.home.iterdir() if file.name in ("airflow", "mlops", ".airflow-mlops")]


def test_files_on_a_shared_volume_are_mounted_from_where_they_lie(tmp_path: Path) -> None:
    shared = {"/shared": {"persistentVolumeClaim": {"claimName": "mlops"}}}
    said = in_a_home(tmp_path).run(
        "render",
        "churn.yaml",
        "prepare/split",
        "-p",
        "tag=7",
        AIRFLOW__MLOPS__STORE="file:///shared/store",
        AIRFLOW__MLOPS__WORK_DIR="/shared/work",
        AIRFLOW__MLOPS__KUBERNETES_VOLUMES=json.dumps({**shared, "/lake": {"nfs": {"server": "nas", "path": "/"}}}),
        AIRFLOW_HOME=str(tmp_path / "airflow"),
    )
    # Its input is imported from an object store, and lies in the attempt's folder when the program starts.
    assert said.code == 0, said.err
    pod = yaml.safe_load(said.out)
    assert pod["spec"]["initContainers"] == []
    mounts = {mount["mountPath"]: mount.get("subPath") for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["/mlops/outputs"] == "store/<instance>/churn/<run>/prepare.split/-/1/<attempt>/outputs"
    assert mounts["/mlops/inputs/raw"] == "work/mlops-<attempt>/inputs/raw"
    assert not (tmp_path / "store").exists()


def test_a_pod_that_the_deployment_refuses_is_refused(tmp_path: Path) -> None:
    said = in_a_home(tmp_path).run("render", "churn.yaml", "fit", "-p", "tag=7", AIRFLOW_HOME=str(tmp_path / "airflow"))
    assert (said.code, said.out) == (2, "")
    assert "step 'fit' asks for namespace 'ml', which this deployment does not allow" in said.err


WITHOUT = """
import sys
sys.modules["airflow.providers.cncf"] = None
from airflow_mlops.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without_the_extra(user: Terminal, *words: str) -> Said:
    """A command where Kubernetes' libraries are not installed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        env=user.environment,
        cwd=user.home,
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    user = in_a_home(tmp_path)
    said = without_the_extra(user, "render", "churn.yaml", "fit", "-p", "tag=7")
    assert (said.code, said.out) == (2, "")
    assert "is not installed; expected: pip install 'airflow-provider-mlops[kubernetes]'" in said.err


def test_without_the_extra_a_spec_is_checked_and_its_pods_are_not(tmp_path: Path) -> None:
    user = in_a_home(tmp_path)
    said = without_the_extra(user, "validate", "churn.yaml")
    assert (said.code, said.out) == (0, "PASS churn.yaml (churn, 4 steps)\n")
    assert "pip install 'airflow-provider-mlops[kubernetes]'; without, only the spec is checked" in said.err
    assert without_the_extra(user, "validate", "churn.yaml", "--dry-run=server").code == 2
