# SPDX-License-Identifier: Apache-2.0
"""What a Docker daemon, or the way to it, does to a step that runs: with a real proxy before a real daemon."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from tests.operators.printing_step import LINES, PrintingStep, ends_shown, shown_lines, until
from tests.parts.docker import containers
from tests.parts.proxy import Proxy, proxied

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult, RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_mlops.operators import DockerContainerOperator
with DAG("NAME", schedule=None) as dag:
    DockerContainerOperator(task_id="step", image="mlops-busybox:1", command=["sh", "-c", PROGRAM], outputs={"n": "integer"},
                            retry_delay=timedelta(0), volumes=[{"source": FOLDER, "target": FOLDER}])
"""


class Step(PrintingStep):
    """A step that prints lines until it may end, run through a proxy of its own."""

    def __init__(self, run_dag: RunDag, folder: Path, real: str, name: str, pool: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.name = name
        self.daemon = docker.APIClient(real, version="auto")
        self.proxy = Proxy(f"{folder}/docker.sock", real.removeprefix("unix://"))
        self._run_dag, self._pool = run_dag, pool

    def start(self, program: str = LINES, **settings: str) -> Future[DagResult]:
        program = f"cd {self.folder}; {program}"
        text = (
            DAG.replace("PROGRAM", repr(program)).replace("FOLDER", repr(str(self.folder))).replace("NAME", self.name)
        )
        env = {
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(self.folder),
            "AIRFLOW__MLOPS__STORE": f"file://{self.folder}/store",
            **{f"AIRFLOW__MLOPS__{name.upper()}": value for name, value in settings.items()},
        }
        return self._pool.submit(self._run_dag, text, env=env)

    def failed(self) -> None:
        """Wait until the first try has."""
        until(lambda: [*self.folder.glob("store/**/failure-1.json")])

    def container(self) -> dict[str, Any]:
        """The one that there is."""
        (found,) = self.daemon.containers(all=True, filters={"label": f"mlops.dag={self.name}"})
        return dict(found)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def step(
    run_dag: RunDag, tmp_path: Path, docker_daemon: str, busybox_image: str, pool: ThreadPoolExecutor
) -> Iterator[Step]:
    step = Step(run_dag, tmp_path, docker_daemon, "away", pool)
    yield step
    step.proxy.close()


OUTAGES = [("cut", 5), ("fail", 30), ("stall", 30), ("cut", 120)]


def test_a_daemon_that_is_away_for_two_minutes_costs_nothing(
    run_dag: RunDag, tmp_path: Path, docker_daemon: str, busybox_image: str, pool: ThreadPoolExecutor
) -> None:
    def outage(deed: str, seconds: int) -> tuple[Step, DagResult]:
        folder = tmp_path / f"{deed}-{seconds}"
        folder.mkdir()
        step = Step(run_dag, folder, docker_daemon, f"{deed}-{seconds}", pool)
        done = step.start(daemon_patience="150")
        step.runs()
        step.goes_through(deed, seconds)
        result = done.result()
        step.proxy.close()
        return step, result

    for started in [pool.submit(outage, *case) for case in OUTAGES]:
        step, result = started.result()
        assert result.tasks == {"step": "success"}, result.log
        assert (step.ran(), result.xcoms["step"]["parameters"]) == (1, {"n": 1}), f"{step.name}: {result.log[-3000:]}"
        shown = shown_lines(result.log)
        assert shown == list(range(1, len(shown) + 1)), step.name
        assert ends_shown(result.log) == 1
    assert containers() == []


def test_a_daemon_that_is_away_for_too_long_is_an_infrastructure_failure_and_the_next_try_follows(step: Step) -> None:
    done = step.start(daemon_patience="2")
    step.runs()
    step.is_away_for_too_long()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log
    assert "has not answered for" in result.log and "daemon_patience" in result.log
    assert "Adopted attempt" in result.log
    assert step.ran() == 1
    assert containers() == []


@pytest.mark.parametrize("deed", ["remove_container", "kill"])
def test_a_container_that_is_taken_away_is_an_infrastructure_failure(step: Step, deed: str) -> None:
    done = step.start()
    step.runs()
    options = {"force": True} if deed == "remove_container" else {}
    getattr(step.daemon, deed)(step.container()["Id"], **options)
    step.failed()
    step.may_end()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log
    assert ("was removed by somebody else" if options else "was killed from outside") in result.log
    assert (step.ran(), result.xcoms["step"]["parameters"]) == (2, {"n": 2})
    assert containers() == []


def test_a_container_that_ends_before_anyone_attaches_is_judged_and_logged(step: Step) -> None:
    rule = step.proxy.rule("GET .*/logs", "hold request")
    step.may_end()
    done = step.start()
    until(rule.reached.is_set)
    until(lambda: step.container()["State"] == "exited")
    rule.released.set()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log
    assert ends_shown(result.log) == 1
    assert containers() == []


def test_a_start_whose_answer_is_lost_is_not_made_twice(step: Step) -> None:
    rule = step.proxy.rule("POST .*/start$", "hold answer")
    step.may_end()
    done = step.start()
    until(rule.reached.is_set)
    until(lambda: step.container()["State"] == "exited")
    step.proxy.cut_all()
    rule.released.set()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log
    assert (step.ran(), result.xcoms["step"]["parameters"]) == (1, {"n": 1})
    assert containers() == []


def test_a_container_whose_creation_was_not_heard_of_is_removed(step: Step) -> None:
    rule = step.proxy.rule("POST .*/containers/create", "hold answer")
    step.may_end()
    done = step.start()
    until(rule.reached.is_set)
    unheard = until(containers)
    step.proxy.cut_all()
    rule.closed.set()
    rule.released.set()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log
    assert step.ran() == 1
    assert len(unheard) == 1 and containers() == []


def test_a_log_that_breaks_again_and_again_is_whole_and_without_doubles(step: Step) -> None:
    done = step.start()
    step.runs()
    for _ in range(5):
        opened = sum("/logs" in line for line in step.proxy.requests)
        step.proxy.cut_all()
        until(lambda opened=opened: sum("/logs" in line for line in step.proxy.requests) > opened)  # type: ignore[misc]
    step.may_end()
    result = done.result()
    assert result.tasks == {"step": "success"}, result.log
    shown = shown_lines(result.log)
    assert shown == list(range(1, len(shown) + 1))
    assert ends_shown(result.log) == 1


def test_a_foreign_container_of_the_same_name_is_refused_and_not_touched(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name is random; nothing but chance or malice makes two alike. So the id is set for this test.
    numbered = (
        "import itertools\nimport airflow_mlops.artifacts\nnumbers = itertools.count()\n"
        "airflow_mlops.artifacts.new_attempt_id = lambda: f'{next(numbers):012x}'\n"
    )
    beside = {"sitecustomize.py": numbered}
    foreign = step.daemon.create_container("mlops-busybox:1", ["true"], name="mlops-000000000000")["Id"]
    try:
        step.may_end()
        program = f"cd {step.folder}; {LINES}"
        text = DAG.replace("PROGRAM", repr(program)).replace("FOLDER", repr(str(step.folder))).replace("NAME", "away")
        env = {
            "AIRFLOW__MLOPS__ALLOWED_VOLUMES": str(step.folder),
            "AIRFLOW__MLOPS__STORE": f"file://{step.folder}/store",
        }
        result = step._run_dag(text, env=env, beside=beside)
        assert "is already in use by container" in result.log
        assert result.tasks == {"step": "success"}, result.log
        assert step.daemon.inspect_container(foreign)["State"]["Status"] == "created"
    finally:
        step.daemon.remove_container(foreign)


def test_the_proxy_of_these_tests_does_what_it_is_told(tmp_path: Path, docker_daemon: str) -> None:
    with proxied(f"{tmp_path}/sock", docker_daemon.removeprefix("unix://")) as proxy:
        cli = docker.APIClient(f"unix://{tmp_path}/sock", version="auto", timeout=5)
        assert cli.ping()
        rule = proxy.rule("GET .*/info", "fail")
        with pytest.raises(docker.errors.APIError, match="told to fail"):
            cli.info()
        rule.released.set()
        assert cli.info()["ServerVersion"]
