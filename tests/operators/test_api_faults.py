# SPDX-License-Identifier: Apache-2.0
"""
What a Kubernetes API server, or the way to it, does to a step: with a real proxy before a real API server, on which the worker has the documented
role.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.operators.printing_step import LINES, PrintingStep, ends_shown, shown_lines, until
from tests.parts.kubernetes_proxy import (
    GONE,
    GONE_IN_WATCH,
    HALF_AN_EVENT,
    INTERNAL,
    LOGIN,
    MAINTENANCE,
    NO_PODS,
    TOO_MANY,
    proxied_kubeconfig,
    status_of,
)
from tests.parts.s3 import S3Server, new_bucket

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag
    from tests.parts.kubernetes import Cluster
    from tests.parts.namespace import Namespace
    from tests.parts.proxy import Answer

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.slow]

DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import KubernetesContainerOperator
with DAG("NAME", schedule=None) as dag:
    KubernetesContainerOperator(task_id="step", image="mlops-busybox:1", command=["sh", "-c", PROGRAM], outputs={"n": "integer"},
                                retry_delay=timedelta(0), volumes=[{"source": "NAME", "target": "/seen"}], **MORE)
"""
WATCH = r"GET .*[?&]watch="
LOG = r"GET .*/pods/[^/]+/log"
READ = r"GET .*/pods(/[^/?]+(\?|$)|\?fieldSelector=(?!.*watch=))"
LIST = r"GET .*/pods\?labelSelector="
REQUESTS = (
    LIST,
    "POST .*/secrets",
    "POST .*/pods",
    "PATCH .*/secrets/",
    "PATCH .*/pods/",
    READ,
    WATCH,
    LOG,
    "DELETE .*/pods/",
    "DELETE .*/secrets/",
)
"""All that a step asks of an API server."""


class Step(PrintingStep):
    """A step that prints lines until it may end, run through a proxy of its own."""

    def __init__(
        self, run_dag: RunDag, namespace: Namespace, s3: S3Server, folder: Path, name: str, pool: ThreadPoolExecutor
    ) -> None:
        self.name, self.namespace, self.folder = name, namespace, folder
        folder.mkdir(exist_ok=True)
        namespace.claim(name, folder)
        folder.chmod(0o777)  # the program has a user of its own
        self.kubeconfig = folder.with_name(f"{name}.kubeconfig")
        self.proxy = proxied_kubeconfig(namespace.kubeconfig, self.kubeconfig)
        url, options = new_bucket(s3)
        self.store = s3.folder / url.removeprefix("s3://")
        self._run_dag, self._pool = run_dag, pool
        self._settings = {
            "STORE": url,
            "STORAGE_OPTIONS": json.dumps(options),
            "INSTANCE": "faults",
            "STAGER_IMAGE": "mlops-stager:1",
            "ALLOWED_NAMESPACES": namespace.name,
            "ALLOWED_VOLUMES": name,
        }

    def start(self, waiter: str = "worker", more: dict[str, Any] | None = None, **settings: str) -> Future[DagResult]:
        """
        Run it.

        :param waiter: who waits for the pod
        """
        keywords = {"namespace": self.namespace.name, "deferrable": waiter == "triggerer", **(more or {})}
        text = (
            DAG.replace("PROGRAM", repr(f"cd /seen; {LINES}"))
            .replace("NAME", self.name)
            .replace("MORE", repr(keywords))
        )
        settings = self._settings | {name.upper(): value for name, value in settings.items()}
        env = {
            "KUBECONFIG": str(self.kubeconfig),
            **{f"AIRFLOW__MLOPS__{name}": value for name, value in settings.items()},
        }
        return self._pool.submit(self._run_dag, text, env=env)

    def failed(self, seconds: float = 60) -> None:
        """Wait until the first try has."""
        until(lambda: [*self.store.glob("**/failure-1.json")], seconds)

    def asked(self, pattern: str) -> int:
        """How often something was asked of the API server, or was to be."""
        return sum(re.search(pattern, line) is not None for line in self.proxy.requests)

    def cost_nothing(self, done: Future[DagResult]) -> DagResult:
        """See that the program ran once, that its result is committed and its output whole."""
        result = done.result()
        assert result.tasks == {"step": "success"}, result.log[-8000:]
        said = f"{self.name}: {result.log[-4000:]}"
        assert (self.ran(), result.xcoms["step"]["parameters"]) == (1, {"n": 1}), said
        assert not [*self.store.glob("**/failure-*.json")], said
        assert len([*self.store.glob("**/manifest.json")]) == 1, said
        shown = shown_lines(result.log)
        assert shown == list(range(1, len(shown) + 1)), said
        assert ends_shown(result.log) == 1, said
        return result


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * len(OUTAGES)) as pool:
        yield pool


NewStep = Callable[[str], Step]


@pytest.fixture
def new_step(
    run_dag: RunDag, namespace: Namespace, cluster_s3: S3Server, tmp_path: Path, pool: ThreadPoolExecutor
) -> Iterator[NewStep]:
    made: list[Step] = []

    def new(name: str) -> Step:
        made.append(Step(run_dag, namespace, cluster_s3, tmp_path / name, name, pool))
        return made[-1]

    yield new
    for step in made:
        step.may_end()  # of a test that failed, too: its Airflow is waited for
        step.proxy.close()


@pytest.fixture
def step(new_step: NewStep) -> Step:
    return new_step("step")


waiters = pytest.mark.parametrize("waiter", ["worker", "triggerer"])


@waiters
def test_a_watch_that_is_cut_again_and_again_costs_nothing(step: Step, waiter: str) -> None:
    # In the middle of each event, while the pod comes to be; in the middle of its silence, while the program runs.
    cuts = step.proxy.rule(WATCH, "cut answer", after=1000)
    done = step.start(waiter)
    step.runs()
    for _ in range(4):
        watches = step.asked(WATCH)
        step.proxy.cut_all()
        until(lambda watches=watches: step.asked(WATCH) > watches)  # type: ignore[misc]
    step.may_end()
    step.cost_nothing(done)
    assert cuts.met > 4
    assert step.namespace.left() == []


@waiters
@pytest.mark.parametrize(
    "answer", [GONE, GONE_IN_WATCH, HALF_AN_EVENT], ids=["gone", "gone in the stream", "half an event"]
)
def test_a_watch_that_is_refused_as_too_old_or_ends_in_half_an_event_is_begun_anew(
    step: Step, answer: Answer, waiter: str
) -> None:
    refused = step.proxy.rule(WATCH, "fail", times=4, answer=answer)
    done = step.start(waiter)
    step.runs()
    until(lambda: refused.met == 4)
    step.may_end()
    step.cost_nothing(done)
    assert step.namespace.left() == []


@waiters
def test_a_watch_begins_where_the_cluster_is_however_long_its_pod_has_not_changed(step: Step, waiter: str) -> None:
    # A server forgets the changes of an hour ago. A watch from where a quiet pod changed last would be refused each time.
    done = step.start(waiter)
    step.runs()
    step.namespace.cluster.kubectl("create", "configmap", "change", "-n", step.namespace.name)
    (pod,) = step.namespace.pods()
    watches = step.asked(WATCH)
    step.proxy.cut_all()
    until(lambda: step.asked(WATCH) > watches)
    newest = [line for line in step.proxy.requests if re.search(WATCH, line)][-1]
    begins = re.search(r"resourceVersion=(\d+)", newest)
    assert begins is not None and int(begins[1]) > int(pod["metadata"]["resourceVersion"])
    step.may_end()
    step.cost_nothing(done)
    assert step.namespace.left() == []


@waiters
@pytest.mark.parametrize("answer", [LOGIN, NO_PODS], ids=["a page", "a list"])
def test_an_end_is_noticed_where_every_watch_is_answered_with_something_else(
    step: Step, answer: Answer, waiter: str
) -> None:
    answered = step.proxy.rule(WATCH, "fail", answer=answer)
    done = step.start(waiter)
    step.runs()
    until(lambda: answered.met > 2)
    step.may_end()
    step.cost_nothing(done)
    assert step.namespace.left() == []


@pytest.mark.parametrize(
    "answer", [TOO_MANY, INTERNAL, MAINTENANCE], ids=["too many requests", "internal error", "maintenance"]
)
def test_a_burst_of_errors_at_every_request_costs_nothing(step: Step, answer: Answer) -> None:
    bursts = [step.proxy.rule(pattern, "fail", times=3, answer=answer) for pattern in REQUESTS]
    step.may_end()
    step.cost_nothing(step.start())
    assert {burst.pattern: burst.met for burst in bursts} == dict.fromkeys(REQUESTS, 3)
    assert step.namespace.left() == []


@waiters
def test_a_token_that_has_expired_is_read_anew(step: Step, waiter: str) -> None:
    namespace, cluster = step.namespace, step.namespace.cluster
    cluster.kubectl("create", "secret", "generic", "lifetime", "-n", namespace.name)
    bound = ("--bound-object-kind=Secret", "--bound-object-name=lifetime")
    token = cluster.kubectl("create", "token", "airflow", "-n", namespace.name, *bound).strip()
    file = step.kubeconfig.with_suffix(".token")
    file.write_text(token)
    config = json.loads(step.kubeconfig.read_text())
    config["users"][0]["user"] = {"tokenFile": str(file)}
    step.kubeconfig.write_text(json.dumps(config))

    def is_refused() -> bool:
        try:
            cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace.name}/pods", "--token", token)
        except AssertionError as error:
            return "Unauthorized" in str(error)
        return False

    done = step.start(waiter)
    step.runs()
    # A token's life ends with that of what it is bound to: the API server itself refuses it from then on.
    cluster.kubectl("delete", "secret", "lifetime", "-n", namespace.name)
    until(is_refused)
    step.proxy.cut_all()
    asked = step.asked(READ)
    until(lambda: step.asked(READ) > asked + 3)
    file.write_text(cluster.kubectl("create", "token", "airflow", "-n", namespace.name).strip())
    step.may_end()
    result = step.cost_nothing(done)
    assert "The Kubernetes API server does not answer ((401)" in result.log
    assert namespace.left() == []


OUTAGES = (("cut", "worker"), ("fail", "worker"), ("stall", "worker"), ("cut", "triggerer"))


def test_an_api_server_that_is_away_for_a_minute_costs_nothing(new_step: NewStep, pool: ThreadPoolExecutor) -> None:
    def outage(deed: str, waiter: str) -> tuple[Step, Future[DagResult]]:
        step = new_step(f"{deed}-{waiter}")
        done = step.start(waiter, daemon_patience="150")
        step.runs()
        step.goes_through(deed, 60, answer=MAINTENANCE)
        return step, done

    namespace = None
    for started in [pool.submit(outage, *case) for case in OUTAGES]:
        step, done = started.result()
        step.cost_nothing(done)
        namespace = step.namespace
    assert namespace is not None and namespace.left() == []


def test_an_api_server_that_is_away_for_too_long_is_an_infrastructure_failure_and_the_next_try_follows(
    step: Step,
) -> None:
    done = step.start(daemon_patience="2")
    step.runs()
    step.is_away_for_too_long()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log[-8000:]
    assert "infrastructure: step 'step': the Kubernetes API server has not answered for" in result.log
    assert "longer than [mlops] daemon_patience (2)" in result.log
    assert "Adopted attempt" in result.log
    assert (step.ran(), result.xcoms["step"]["parameters"]) == (1, {"n": 1})
    assert step.namespace.left() == []


def test_a_creation_whose_answer_is_lost_makes_one_pod(step: Step) -> None:
    patterns = ("POST .*/secrets", "POST .*/pods", "PATCH .*/secrets/", "PATCH .*/pods/")
    lost = [step.proxy.rule(pattern, "cut answer", times=2) for pattern in patterns]
    step.may_end()
    step.cost_nothing(step.start())
    assert [rule.met for rule in lost] == [2, 2, 2, 2]
    assert (step.asked("POST .*/secrets"), step.asked("POST .*/pods")) == (3, 3)
    assert step.namespace.left() == []


def test_a_deletion_whose_answer_is_lost_leaves_nothing(step: Step) -> None:
    done = step.start()
    step.runs()
    patterns = ("PATCH .*/pods/", "DELETE .*/pods/", "DELETE .*/secrets/")
    lost = [step.proxy.rule(pattern, "cut answer", times=2) for pattern in patterns]
    step.may_end()
    result = step.cost_nothing(done)
    assert [rule.met for rule in lost] == [2, 2, 2], result.log[-4000:]
    assert step.namespace.left() == []


@waiters
def test_a_log_that_is_cut_in_the_middle_of_its_lines_is_whole_and_without_doubles(step: Step, waiter: str) -> None:
    cuts = [step.proxy.rule(LOG, "cut answer", times=1, after=after) for after in (390, 777, 1234, 1900)]
    done = step.start(waiter)
    until(lambda: step.asked(LOG) > len(cuts))
    step.proxy.cut_all()
    until(lambda: step.asked(LOG) > len(cuts) + 1)
    step.may_end()
    step.cost_nothing(done)
    assert [cut.met for cut in cuts] == [1, 1, 1, 1]
    assert step.namespace.left() == []


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "shared", "finalizers": ["mlops.airflow/harvest", "example.com/other"]},
    "spec": {
        "schedulingGates": [{"name": "mlops.airflow/start"}, {"name": "example.com/other"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "step",
                "image": "mlops-busybox:1",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


def test_what_others_put_at_a_pod_stays_when_ours_goes_however_often(namespace: Namespace) -> None:
    from kubernetes import client, config

    from airflow_mlops.operators.kubernetes_api import Pods

    def connect() -> Any:
        return client.CoreV1Api(config.new_client_from_config(str(namespace.kubeconfig)))

    log = logging.getLogger(__name__)
    pods = Pods(connect, namespace.name, seconds=5, task_id="step", log=log, check=lambda: None)
    namespace.cluster.kubectl("apply", "-n", namespace.name, "-f", "-", stdin=json.dumps(POD))
    for _ in range(2):
        pods.open_gate("shared")
        pods.release("shared")
    (pod,) = namespace.pods()
    assert pod["spec"]["schedulingGates"] == [{"name": "example.com/other"}]
    assert pod["metadata"]["finalizers"] == ["example.com/other"]
    for _ in range(2):
        pods.delete("shared", 0)
    change = '{"metadata": {"finalizers": null}}'
    namespace.cluster.kubectl("patch", "pod", "shared", "-n", namespace.name, "--type=merge", "-p", change)
    for _ in range(2):
        # Nothing is there any more.
        pods.open_gate("shared")
        pods.release("shared")
        pods.delete("shared", 0)


def test_the_proxy_of_these_tests_says_what_an_api_server_says(kubernetes_cluster: Cluster) -> None:
    path = "/api/v1/pods?watch=1&resourceVersion=1&timeoutSeconds=5"
    event = json.loads(kubernetes_cluster.kubectl("get", "--raw", path))
    said = event["object"].pop("message")
    ours = json.loads(GONE_IN_WATCH.body)
    assert said.startswith("too old resource version: 1 (")
    del ours["object"]["message"]
    assert event == ours
    assert json.loads(GONE.body) == status_of(410, "Expired", "too old resource version: 1 (1000)")
