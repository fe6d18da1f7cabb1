# SPDX-License-Identifier: Apache-2.0
"""Steps as pods of a real cluster, whose worker has the documented role and whose namespace enforces the restricted profile."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cli.support import ROOT, Terminal
from tests.parts.docker import INSTANCE_OF_PODS
from tests.parts.s3 import SECRET, new_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.airflow_home import DagResult, RunDag
    from tests.parts.namespace import Namespace
    from tests.parts.s3 import S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.s3]

HEAD = """
    from datetime import timedelta
    from airflow.sdk import DAG
    from airflow_mlops.operators import KubernetesContainerOperator, KubernetesTrainOperator
    def step(name, script, **keywords):
        keywords.setdefault("namespace", NAMESPACE)
        return KubernetesContainerOperator(task_id=name, image="mlops-busybox:1", command=["sh", "-c", script], **keywords)
    with DAG("pods", schedule=None) as dag:
"""


class Deployment:
    """An Airflow whose steps run in a namespace, on an object store or a shared folder."""

    def __init__(self, run_dag: RunDag, namespace: Namespace, settings: dict[str, str]) -> None:
        self._run_dag = run_dag
        self.namespace = namespace
        self.settings = {
            "STAGER_IMAGE": "mlops-stager:1",
            "ALLOWED_NAMESPACES": "*",
            "INSTANCE": INSTANCE_OF_PODS,
            **settings,
        }

    def environment(self, **settings: Any) -> dict[str, str]:
        values = self.settings | {name.upper(): str(value) for name, value in settings.items()}
        return {
            "KUBECONFIG": str(self.namespace.kubeconfig),
            **{f"AIRFLOW__MLOPS__{name}": value for name, value in values.items()},
        }

    def files(self) -> list[str]:
        """Files of outputs that the store holds."""
        import s3fs

        found = s3fs.S3FileSystem(**json.loads(self.settings["STORAGE_OPTIONS"])).find(self.settings["STORE"])
        return [file for file in found if "/outputs/" in file]

    def run(self, steps: str, beside: dict[str, str] | None = None, **settings: Any) -> DagResult:
        text = HEAD.replace("NAMESPACE", repr(self.namespace.name)) + "".join(
            f"        {line}\n" for line in steps.strip().splitlines()
        )
        return self.run_file(text, beside, **settings)

    def run_file(self, text: str, beside: dict[str, str] | None = None, **settings: Any) -> DagResult:
        return self._run_dag(text, env=self.environment(**settings), beside=beside)


@pytest.fixture
def on_s3(run_dag: RunDag, namespace: Namespace, cluster_s3: S3Server) -> Deployment:
    url, options = new_bucket(cluster_s3)
    return Deployment(run_dag, namespace, {"STORE": url, "STORAGE_OPTIONS": json.dumps(options)})


@pytest.fixture
def on_volume(run_dag: RunDag, namespace: Namespace, tmp_path: Path) -> Deployment:
    return Deployment(run_dag, namespace, namespace.share(tmp_path))


CHAIN = """
write = "echo a > {{ outputs.train.path }}; mkdir -p $MLOPS_OUTPUT_MODEL/deep; echo w > $MLOPS_OUTPUT_MODEL/deep/weights; printf 7 > $MLOPS_OUTPUT_N"
make = step("make", write, outputs={"train": {"type": "dataset", "file": "train.csv"}, "model": "model", "n": "integer"})
inputs = {"train": make.artifact("train"), "model": make.artifact("model"), "n": make.artifact("n")}
read = "cat {{ inputs.train.path }} $MLOPS_INPUT_MODEL/deep/weights; echo n=$MLOPS_PARAM_N; id -u; grep -q attempt /mlops/step.json && echo sealed"
write = "touch /mlops/inputs/x || echo inputs cannot be written; echo '{\\"auc\\": 0.5}' > $MLOPS_OUTPUT_M"
step("use", f"{read}; {write}", inputs=inputs, outputs={"m": {"type": "metrics", "keys": ["auc"]}})
"""


def lines_of(result: DagResult) -> list[str]:
    """What programs printed, as the task's log has it."""
    return [
        line.split("]", 1)[1].rsplit("[airflow.task", 1)[0].strip()
        for line in result.log.splitlines()
        if "loc=base.py" in line
    ]


@pytest.mark.parametrize("place", ["on_s3", "on_volume"])
def test_artifacts_are_handed_on_and_inputs_cannot_be_written(place: str, request: pytest.FixtureRequest) -> None:
    deployment: Deployment = request.getfixturevalue(place)
    result = deployment.run(CHAIN)
    assert result.tasks == {"make": "success", "use": "success"}, result.log[-8000:]
    assert result.xcoms["make"]["parameters"] == {"n": 7}
    assert result.xcoms["use"]["metrics"] == {"m": {"auc": 0.5}}
    said = lines_of(result)
    assert [word for word in ("a", "w", "n=7", "65532", "sealed", "inputs cannot be written") if word not in said] == []
    assert deployment.namespace.left() == []


LITTLE = """
look = ("grep -q attempt /mlops/step.json && touch /mlops/tmp/x /mlops/outputs/x && echo $WHO found its place; "
        "touch /mlops/inputs/x /mlops/step.json 2>/dev/null || echo $WHO may not write; exit 3")
def failing(name, **keywords):
    step(name, look, env={"WHO": name} | keywords.pop("env", {}), keep_failed=timedelta(hours=1), **keywords)
made = step("made", "echo a > $MLOPS_OUTPUT_DATA", outputs={"data": "dataset"}).artifact("data")
failing("bare")
failing("makes", outputs={"data": {"type": "dataset", "file": "data.csv"}})
failing("takes", inputs={"data": made})
failing("sealed-at-length", env={"LONG": "x" * 70_000})
"""


def test_a_pod_has_no_container_beside_the_program_that_has_nothing_to_carry(on_s3: Deployment) -> None:
    result = on_s3.run(LITTLE)
    assert result.tasks.pop("made") == "success" and set(result.tasks.values()) == {"failed"}, result.log[-6000:]
    pods = {pod["metadata"]["labels"]["mlops.airflow/task"]: pod for pod in on_s3.namespace.pods()}
    beside = {name: [one["name"] for one in pod["spec"].get("initContainers", ())] for name, pod in pods.items()}
    assert beside == {
        "bare": [],
        "makes": ["stage-out"],
        "takes": ["stage-in"],
        "sealed-at-length": ["stage-in"],
    }
    said = lines_of(result)
    assert [name for name in beside if f"{name} found its place" not in said] == []
    assert [name for name in beside if f"{name} may not write" not in said] == []
    secrets = {one["metadata"]["name"] for one in on_s3.namespace.cluster.objects("secrets", on_s3.namespace.name)}
    assert secrets == {pod["metadata"]["name"] for name, pod in pods.items() if name != "bare"}


ODD = r"""
script = 'echo "pid $$ home $(HOME) $(MLOPS_OUTPUT_MODEL) $A"; touch "$MLOPS_OUTPUT_MODEL"; ls "${MLOPS_OUTPUT_MODEL%/*}"; '
script += 'head -c 300000 /dev/zero | tr "\\0" x; echo'
step("odd", script, env={"A": "a$$b $(HOME)"}, outputs={"model": {"type": "model", "file": "m$$b.bin"}})
"""


def test_kubernetes_replaces_nothing_in_what_a_program_gets_and_a_long_line_is_shown_once(on_s3: Deployment) -> None:
    result = on_s3.run(ODD)
    assert result.tasks == {"odd": "success"}, result.log[-6000:]
    said = lines_of(result)
    assert any(line.startswith("pid 1 home ") and line.endswith(" a$$b $(HOME)") for line in said), said[:9]
    assert "m$$b.bin" in said
    assert any(file.endswith("/outputs/model/m$$b.bin") for file in on_s3.files())
    assert sum(line.count("x") for line in said if set(line) == {"x"}) == 300_000


def test_a_step_without_files_needs_no_stager(on_s3: Deployment) -> None:
    result = on_s3.run('step("bare", "true")\nstep("makes", "true", outputs={"data": "dataset"})', stager_image="")
    assert result.tasks == {"bare": "success", "makes": "failed"}, result.log[-6000:]
    assert "[mlops] stager_image does not say which" in result.log


def test_outputs_of_a_program_that_failed_are_not_committed(on_s3: Deployment) -> None:
    result = on_s3.run("""
step("fail", "echo written > $MLOPS_OUTPUT_DATA; echo last words >&2; exit 7", outputs={"data": "dataset"})
""")
    assert result.tasks == {"fail": "failed"}
    assert "user-code: step 'fail': its program ended with exit code 7" in result.log
    assert "last words" in lines_of(result)
    assert on_s3.files() == []
    assert on_s3.namespace.left() == []


def test_a_missing_and_a_wrong_output_are_told_at_once(on_s3: Deployment) -> None:
    result = on_s3.run("""
step("make", "ln -s /etc/passwd $MLOPS_OUTPUT_LINK; echo x > $MLOPS_OUTPUT_N; echo other > /mlops/outputs/other",
     outputs={"data": "dataset", "link": "dataset", "n": "integer"})
""")
    assert result.tasks == {"make": "failed"}
    assert "output 'data' was not written" in result.log and "the program wrote link, n, other" in result.log
    assert "is a symbolic link" in result.log and "output 'n'" in result.log
    assert on_s3.files() == []


WHY = {
    "no-program": "cannot-start: step 'no-program': its program cannot be started: StartError",
    "no-image": "cannot-start: step 'no-image': container 'step' (mlops-none:1) cannot be started: ErrImageNeverPull",
    "bad-pod": "bad-step: step 'bad-pod': no pod has a field spec.nodeSelectr",
    "refused": "policy: step 'refused' asks for the host's network",
    "root": "policy: step 'root' asks for root as user of container 'step'",
    "account": "policy: step 'account' asks for service account 'powerful'",
    "elsewhere": "policy: step 'elsewhere': the Kubernetes API server refused pods",
    "greedy": "out-of-memory: step 'greedy' was killed for using more memory than its limit of 32Mi",
    "late": "timeout: step 'late' ran longer than its timeout of 2 s",
}


def test_what_goes_wrong_has_its_class_and_its_reason(on_s3: Deployment) -> None:
    result = on_s3.run(
        """
KubernetesContainerOperator(task_id="no-program", image="mlops-busybox:1", command=["nonesuch"], namespace=NAMESPACE)
KubernetesContainerOperator(task_id="no-image", image="mlops-none:1", command=["true"], namespace=NAMESPACE, image_pull_policy="Never")
step("bad-pod", "true", pod={"spec": {"nodeSelectr": {"a": "b"}}})
step("refused", "true", hostnetwork=True)
step("root", "true", pod={"spec": {"containers": [{"name": "step", "securityContext": {"runAsUser": 0}}]}})
step("account", "true", service_account_name="powerful")
step("elsewhere", "true", namespace="default")
step("greedy", "tail /dev/zero", memory="32Mi")
step("late", "sleep 600", step_timeout=timedelta(seconds=2), stop_grace=timedelta(seconds=1))
""".replace("NAMESPACE", repr(on_s3.namespace.name))
    )
    assert set(result.tasks.values()) == {"failed"}, result.log[-6000:]
    assert [why for why in WHY.values() if why not in result.log] == []
    assert on_s3.namespace.left() == []


def test_a_pod_that_no_node_takes_says_the_schedulers_reason(on_s3: Deployment) -> None:
    result = on_s3.run('step("train", "true", gpu=1, infra_retries=0)', pod_start_patience=2)
    assert result.tasks == {"train": "failed"}
    assert "infrastructure: step 'train': its program has not started for" in result.log
    assert "no node takes its pod (Unschedulable): 0/1 nodes are available: 1 Insufficient nvidia.com/gpu" in result.log
    assert on_s3.namespace.left() == []


SECRETS = """
secrets = {"TOKEN": {"variable": "token", "as": "env"}, "KEY": {"variable": "key"}}
show = "echo token $TOKEN; cat $MLOPS_SECRET_KEY; echo; ls /mlops/secrets; env | grep -c AWS; cat /proc/mounts | grep secrets"
step("use", show, secrets=secrets, keep_failed=timedelta(hours=1), outputs={"none": "dataset"})
"""


def test_secrets_reach_the_program_and_credentials_do_not(on_s3: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_TOKEN", "sesame-one")
    monkeypatch.setenv("AIRFLOW_VAR_KEY", "sesame-two")
    result = on_s3.run(SECRETS)
    assert result.tasks == {"use": "failed"}  # so that its pod can be looked at
    said = lines_of(result)
    assert "token ***" in said and "KEY" in said and "0" in said
    assert any("tmpfs" in line for line in said)  # in memory, on no disk
    (pod,) = on_s3.namespace.pods()
    assert not any(secret in json.dumps(pod) for secret in ("sesame", SECRET))
    (step,) = pod["spec"]["containers"]
    assert [one["name"] for one in step["env"] if one["name"].startswith("AWS")] == []
    secret = next(one for one in on_s3.namespace.cluster.objects("secrets", on_s3.namespace.name))
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    labels = pod["metadata"]["labels"]
    assert (labels["mlops.airflow/dag"], labels["mlops.airflow/task"], labels["mlops.airflow/kind"]) == (
        "pods",
        "use",
        "container",
    )


def test_code_and_checkpoints_come_and_go(on_s3: Deployment, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "fit.sh").write_text(
        "cat $MLOPS_CHECKPOINT/epoch; test -e $MLOPS_CHECKPOINT/epoch && exit 0; echo 1 > $MLOPS_CHECKPOINT/epoch; exit 4\n"
    )
    result = on_s3.run(
        f'step("fit", "pwd; sh fit.sh", source={str(source)!r}, checkpoint=True, retries=1, retry_delay=timedelta(seconds=0))'
    )
    assert result.tasks == {"fit": "success"}, result.log[-6000:]
    assert "/mlops/source" in lines_of(result) and "1" in lines_of(result)
    assert on_s3.namespace.left() == []


def test_what_a_failed_pod_left_is_kept_for_a_while(on_s3: Deployment) -> None:
    result = on_s3.run('step("fail", "echo why; exit 3", keep_failed=timedelta(hours=1))')
    assert result.tasks == {"fail": "failed"}
    (pod,) = on_s3.namespace.pods()
    name = pod["metadata"]["name"]
    assert f"kubectl logs -n {on_s3.namespace.name} {name} -c step" in result.log
    assert "why" in on_s3.namespace.cluster.kubectl("logs", "-n", on_s3.namespace.name, name, "-c", "step")


def test_a_worker_that_knows_no_cluster_says_so(on_s3: Deployment, tmp_path: Path) -> None:
    on_s3.namespace.kubeconfig = tmp_path / "none"
    result = on_s3.run('step("fit", "true")')
    assert result.tasks == {"fit": "failed"}
    assert "bad-step: step 'fit': no Kubernetes cluster is known here" in result.log


def test_processes_containers_and_pods_hand_each_other_artifacts(on_s3: Deployment) -> None:
    result = on_s3.run(
        """
from airflow_mlops.operators import DockerContainerOperator, ProcessContainerOperator
data = {"data": "dataset"}
a = ProcessContainerOperator(task_id="a", command=["sh", "-c", "echo of a process > $MLOPS_OUTPUT_DATA"], outputs=data)
copy = "cat $MLOPS_INPUT_DATA > $MLOPS_OUTPUT_DATA; echo of a $0 >> $MLOPS_OUTPUT_DATA"
b = KubernetesContainerOperator(task_id="b", image="mlops-busybox:1", command=["sh", "-c", copy, "pod"], namespace=NAMESPACE,
                                inputs={"data": a.artifact("data")}, outputs=data)
c = DockerContainerOperator(task_id="c", image="mlops-busybox:1", command=["sh", "-c", copy, "container"],
                            inputs={"data": b.artifact("data")}, outputs=data)
step("d", "cat $MLOPS_INPUT_DATA", inputs={"data": c.artifact("data")})
""".replace("NAMESPACE", repr(on_s3.namespace.name))
    )
    assert set(result.tasks.values()) == {"success"}, result.log[-6000:]
    assert lines_of(result)[-3:] == ["of a process", "of a pod", "of a container"]


def test_a_spec_runs_from_the_command_line(on_s3: Deployment, tmp_path: Path) -> None:
    user = Terminal(tmp_path / "user")
    user.home.mkdir()
    (user.home / "words.yaml").write_text(SPEC.replace("NAMESPACE", on_s3.namespace.name))
    environment = on_s3.environment()
    said = user.run(
        "run",
        "words.yaml",
        "--runtime",
        "kubernetes",
        "--store",
        environment.pop("AIRFLOW__MLOPS__STORE"),
        **environment,
    )
    assert said.code == 0, said.out + said.err
    assert "words" in said.out
    assert on_s3.namespace.left() == []


SPEC = """
apiVersion: mlops/v1
name: words
params: {text: to be or not to be}
defaults: {image: "mlops-busybox:1", kubernetes: {namespace: NAMESPACE}, runtime: process}
steps:
  - {name: write, kind: preprocess, params: [text], command: [sh, -c, 'echo $MLOPS_PARAM_TEXT > $MLOPS_OUTPUT_TEXT'], outputs: {text: dataset}}
  - name: count
    kind: evaluate
    inputs: {text: write.text}
    command: [sh, -c, 'echo "{\\"words\\": $(wc -w < $MLOPS_INPUT_TEXT)}" > $MLOPS_OUTPUT_METRICS']
    outputs: {metrics: metrics}
"""


def test_the_example_of_the_guide_gives_the_pod_that_it_says(on_s3: Deployment, tmp_path: Path) -> None:
    text = (ROOT / "tests" / "spec" / "data" / "on-kubernetes.yaml").read_text()
    text = text.replace("registry.example.com/train:7", "mlops-busybox:1").replace(
        "namespace: ml,", f"namespace: {on_s3.namespace.name},"
    )
    # It fails, so that its pod is kept.
    text = text.replace("echo weights", "df -k /dev/shm; exit 3; echo").replace(
        "    outputs:", "    keep_failed: 1h\n    outputs:"
    )
    file = 'from airflow_mlops import pipeline_dag\ndag = pipeline_dag("pipeline.yaml")\n'
    result = on_s3.run_file(file, {"pipeline.yaml": text})
    assert result.tasks == {"fit": "failed"}, result.log[-5000:]
    assert any(line.split()[1:2] == ["65536"] for line in lines_of(result)), lines_of(result)
    (pod,) = on_s3.namespace.pods("team=churn")
    (step,) = pod["spec"]["containers"]
    assert step["resources"] == {
        "limits": {"cpu": "500m", "memory": str(256 << 20), "ephemeral-storage": str(1 << 30)},
        "requests": {"cpu": "100m", "memory": str(256 << 20), "ephemeral-storage": str(1 << 30)},
    }
    assert pod["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    assert "mlops.airflow/harvest" in pod["metadata"]["finalizers"]


RENDERED = """
apiVersion: mlops/v1
name: words
defaults: {image: "mlops-busybox:1", kubernetes: {namespace: NAMESPACE, labels: {team: words}}, runtime: kubernetes}
steps:
  - {name: write, kind: preprocess, command: [sh, -c, 'echo a > $MLOPS_OUTPUT_TEXT'], outputs: {text: {type: dataset, file: a.txt}}}
  - name: fail
    kind: container
    inputs: {text: write.text}
    command: [sh, -c, 'cat {{ inputs.text.path }}; echo {{ run.id }}; exit 3']
    secrets: {TOKEN: {variable: token, as: env}, KEY: {variable: key}}
    resources: {memory: 64Mi, shm: 1Mi}
    keep_failed: 1h
    pod: {metadata: {annotations: {a: b}}, spec: {hostname: here, containers: [{name: step, env: [{name: MORE, value: x}]}]}}
"""


def test_render_shows_the_pod_that_a_worker_creates(
    on_s3: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_TOKEN", "sesame-one")
    monkeypatch.setenv("AIRFLOW_VAR_KEY", "sesame-two")
    text = RENDERED.replace("NAMESPACE", on_s3.namespace.name)
    file = 'from airflow_mlops import pipeline_dag\ndag = pipeline_dag("words.yaml")\n'
    result = on_s3.run_file(file, {"words.yaml": text})
    assert result.tasks == {"write": "success", "fail": "failed"}, result.log[-5000:]
    (pod,) = on_s3.namespace.pods()
    user = Terminal(tmp_path / "user")
    user.home.mkdir()
    (user.home / "words.yaml").write_text(text)
    said = user.run("render", "words.yaml", "fail", **on_s3.environment(), AIRFLOW_HOME=str(user.home / "airflow"))
    assert said.code == 0, said.err
    shown = yaml.safe_load(said.out)
    # Its try has opened it.
    assert shown["spec"].pop("schedulingGates") == [{"name": "mlops.airflow/start"}]
    assert [*differences(shown, pod)] == []


def differences(shown: Any, real: Any, where: str = "pod") -> Iterator[str]:
    """What a rendered manifest says otherwise than the pod that was created, but for placeholders; the server has added more."""
    if isinstance(shown, dict) and isinstance(real, dict):
        for name, value in shown.items():
            if value not in ({}, [], None):
                # The server leaves out what is false anyway.
                yield from differences(value, real.get(name, False if value is False else None), f"{where}.{name}")
    elif isinstance(shown, list) and isinstance(real, list) and len(shown) == len(real):
        for index, (one, other) in enumerate(zip(shown, real, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif isinstance(shown, str) and isinstance(real, str):
        pattern = re.sub("<[^<>]*>", ".*", re.escape(shown).replace("\\ ", " ")).replace('"size":null', '"size":[0-9]+')
        if not re.fullmatch(pattern, real):
            yield f"{where}: {shown!r} is {real!r}"
    elif shown != real:
        yield f"{where}: {shown!r} is {real!r}"
