# SPDX-License-Identifier: Apache-2.0
"""What becomes of a step's container when its worker dies, at every moment; is drained; is told to stop; or cannot reach Airflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.operators.test_lives import Lives, attempts, outcome
from tests.parts.airflow_home import run_in_home
from tests.parts.docker import containers
from tests.parts.s3 import S3Server, free_port

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]

HEEDS_DRAINS = version("apache-airflow-core") >= "3.3"
WINDOWS = ("before_create", "before_start", "while_running", "after_exit", "while_harvesting", "before_commit")
VICTIMS = ("worker", "task", "supervisor")


def live(home: Path, options: dict[str, Any], *scenarios: str, seconds: float = 500) -> Lives:
    """What ``container_lives.py`` saw."""
    script = Path(__file__).with_name("container_lives.py")
    run_in_home(script, home, json.dumps(options), *scenarios, seconds=seconds)
    found: Lives = json.loads((home / "lives.json").read_text())
    return found


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory, docker_daemon: str, busybox_image: str) -> Lives:
    return live(
        tmp_path_factory.mktemp("lives") / "home",
        {},
        "cleared_while_running",
        "of_a_lost_worker",
        "that_ended_unseen",
        "of_a_lost_supervisor",
        "of_another_spec",
        "committed_by_a_lost_worker",
        "six_times",
        "while_retries_is_edited",
        "while_airflow_stands_still",
        "drained",
        "marked",
        "abandoned",
        *(["drained_and_stopped"] if HEEDS_DRAINS else []),
    )


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, docker_daemon: str, busybox_image: str, s3_server: S3Server
) -> Iterator[Lives]:
    """Workers killed at every moment, with a volume and S3: every moment is one between two requests then."""
    import s3fs

    s3fs.S3FileSystem(**s3_server.storage_options).mkdir("lives")
    proxy = free_port()
    options = s3_server.storage_options
    port = int(re.search(r":(\d+)$", s3_server.url)[1])  # type: ignore[index]
    through_proxy = json.loads(json.dumps(options).replace(f":{port}", f":{proxy}"))
    yield live(
        tmp_path_factory.mktemp("killed") / "home",
        {
            "store": "s3://lives/store",
            "storage_options": json.dumps(through_proxy),
            "instance": "lives",
            "docker_transfer": "volume",
            "folder": str(s3_server.folder / "lives" / "store"),
            "s3_port": port,
            "proxy_port": proxy,
        },
        *(f"{victim}_killed_{window}" for window in WINDOWS for victim in VICTIMS),
        seconds=900,
    )


@pytest.mark.s3
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_worker_killed_at_any_moment_costs_no_second_run(killed: Lives, window: str, victim: str) -> None:
    life = killed[f"{victim}_killed_{window}"]
    # A start that was under way when its supervisor died may reach the daemon when the next try has decided to remove that container.
    runs = [1, 2] if (victim, window) == ("supervisor", "before_start") else [1]
    assert life["ran"] in runs
    assert outcome(life) == ("success", life["ran"], ["1"])
    assert (life["alive"], life["left"], life["parameters"]) == (1, [], {"n": life["ran"]})
    assert len(attempts(life, "1")) == 1


def test_a_clear_of_a_running_step_stops_its_container_first(lives: Lives) -> None:
    assert outcome(lives["cleared_while_running"]) == ("success", 2, ["2"])
    assert lives["cleared_while_running"]["left"] == []


@pytest.mark.parametrize(
    "lost",
    [
        "of_a_lost_worker",
        "that_ended_unseen",
        "of_a_lost_supervisor",
        "six_times",
        "while_retries_is_edited",
        "while_airflow_stands_still",
        "drained",
    ],
)
def test_a_retry_adopts_the_running_container(lives: Lives, lost: str) -> None:
    life = lives[lost]
    assert outcome(life) == ("success", 1, ["1"])
    assert (life["alive"], life["left"], life["parameters"]) == (1, [], {"n": 1})
    assert len(attempts(life, "1")) == 1


def test_a_drain_costs_no_budget(lives: Lives) -> None:
    assert not [name for name in lives["drained"]["files"] if "failure" in name]


def test_a_container_that_the_retry_would_not_start_is_stopped(lives: Lives) -> None:
    life = lives["of_another_spec"]
    assert outcome(life) == ("success", 2, ["1"])
    assert (life["left"], life["parameters"]) == ([], {"n": 77})
    assert len(attempts(life, "1")) == 1


def test_a_container_of_a_commit_that_nobody_heard_of_is_removed(lives: Lives) -> None:
    assert outcome(lives["committed_by_a_lost_worker"]) == ("success", 1, ["1"])
    assert lives["committed_by_a_lost_worker"]["left"] == []


@pytest.mark.skipif(not HEEDS_DRAINS, reason="below Airflow 3.3 no task hears of its worker's end")
def test_a_drain_stops_a_step_that_is_not_to_outlive_its_worker(lives: Lives) -> None:
    assert outcome(lives["drained_and_stopped"]) == ("success", 2, ["1"])
    assert lives["drained_and_stopped"]["left"] == []


def test_a_program_that_ignores_sigterm_is_gone_after_its_grace_although_its_task_process_was_killed(
    lives: Lives,
) -> None:
    life = lives["marked"]
    assert outcome(life) == ("failed, outlived", 1, [])
    assert (life["left"], attempts(life, "1")) == ([], set())


def test_what_nobody_is_left_for_is_removed_by_clean_when_it_is_asked_to(lives: Lives) -> None:
    life = lives["abandoned"]
    everything = "container+scratch+attempt"
    assert life["state"] == f"failed; {everything}; {everything}; nothing"
    assert (life["ran"], life["left"], attempts(life, "1")) == (1, [], set())


def test_nothing_of_all_this_is_left(lives: Lives, killed: Lives) -> None:
    assert containers() == []
