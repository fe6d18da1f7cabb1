# SPDX-License-Identifier: Apache-2.0
"""
Put Kubernetes steps through what happens to them while they wait in the triggerer: it dies, it is restarted, the task is marked or cleared.

Airflow's own scheduler and triggerer. ``python deferred_lives.py HOME OPTIONS SCENARIO…``, as ``pod_lives.py``, whose parts this uses.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "state_model"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil
from container_lives import _waiting
from experiment import start_job
from installation import until
from lives import kill_worker
from pod_lives import Pods, living, pods_lived

from tests.parts.processes import is_alive

HEALTHY = 5
"""Seconds without a sign of life after which a triggerer is dead."""


class Deferred(Pods):
    """Steps that wait in the triggerer."""

    processes: dict[str, Any]

    def wait(self, dag_id: str, more: str = "") -> None:
        """Run a program that ends when it is told to, and have the triggerer wait for it."""
        self.contain(dag_id, f"echo the line of {dag_id}; {_waiting(self, dag_id)}", f", deferrable=True{more}")  # type: ignore[arg-type]
        self.trigger(dag_id)
        until("running program", self.path("ran", dag_id).exists)
        until("deferred task", lambda: [row["state"] for row in self.rows(dag_id)] == ["deferred"])
        until("its output", lambda: self.shown(dag_id))

    def go_on(self, dag_id: str) -> str:
        """Let the program end, and wait for the run's end."""
        self.path("go", dag_id).touch()
        return self.ended(dag_id)

    def shown(self, dag_id: str) -> int:
        """How often the program's line is in the logs of the task and of its trigger."""
        files = [
            file for file in (self.home / "logs").rglob("*") if file.is_file() and f"dag_id={dag_id}/" in str(file)
        ]
        return sum(f'"the line of {dag_id}"' in line for file in files for line in file.read_text().splitlines())

    def workers(self) -> int:
        """How many supervisors of tasks the executor has."""
        children = psutil.Process(self.processes["scheduler"].pid).children()
        return sum(map(is_alive, children))

    def lose_triggerer(self) -> None:
        """Kill it, and the process in which its triggers run."""
        kill_worker(self.processes["triggerer"].pid)
        self.processes["triggerer"].join()

    def start_triggerer(self) -> None:
        self.processes["triggerer"] = start_job("triggerer")


def undisturbed(af: Deferred, dag_id: str) -> str:
    """No worker is held while it waits."""
    af.wait(dag_id)
    until("end of its worker", lambda: af.workers() == 0, seconds=15)
    return af.go_on(dag_id)


def of_a_lost_triggerer(af: Deferred, dag_id: str) -> str:
    """Another one goes on."""
    af.wait(dag_id)
    af.lose_triggerer()
    af.start_triggerer()
    return af.go_on(dag_id)


def of_a_restarted_triggerer(af: Deferred, dag_id: str) -> str:
    """It is asked to end, as at a deploy: that must stop no program."""
    af.wait(dag_id)
    af.processes["triggerer"].terminate()
    af.processes["triggerer"].join()
    af.start_triggerer()
    return af.go_on(dag_id)


def _ended_alone(af: Deferred, dag_id: str) -> None:
    """Run a program that ends while nobody is there."""
    af.wait(dag_id)
    af.lose_triggerer()
    af.path("go", dag_id).touch()
    until("ended pod", lambda: af.has_ended(dag_id))


def that_ended_without_a_triggerer(af: Deferred, dag_id: str) -> str:
    """Nobody is there when the program ends."""
    _ended_alone(af, dag_id)
    af.start_triggerer()
    return af.ended(dag_id)


def that_ended_and_was_deleted(af: Deferred, dag_id: str) -> str:
    """Its pod is deleted by somebody while nobody watches."""
    _ended_alone(af, dag_id)
    af.delete(dag_id, "--force", "--grace-period=0")
    af.start_triggerer()
    return af.ended(dag_id)


def of_a_lost_worker(af: Deferred, dag_id: str) -> str:
    """The worker that looks at the ended pod dies before anybody hears of its commit."""
    af.wait(dag_id)
    af.hold(dag_id, "/return_value")
    af.path("go", dag_id).touch()
    kill_worker(af.held(dag_id))
    af.release(dag_id)
    return af.ended(dag_id)


def edited(af: Deferred, dag_id: str) -> str:
    """The DAG is another one when the program ends; that is for the next try."""
    af.wait(dag_id)
    af.contain(dag_id, "echo 77 > $MLOPS_OUTPUT_N", ", deferrable=True")
    return af.go_on(dag_id)


def deleted(af: Deferred, dag_id: str) -> str:
    """Its pod is deleted while it runs: an infrastructure failure, and it runs again."""
    af.wait(dag_id)
    af.delete(dag_id, "--grace-period=1")
    until("second program", lambda: af.path("ran", dag_id).read_text().count("ran") == 2)  # noqa: PLR2004
    return af.go_on(dag_id)


def marked(af: Deferred, dag_id: str) -> str:
    """Marked as failed while it waits."""
    af.wait(dag_id, ", stop_grace=timedelta(seconds=2)")
    af.mark_failed(dag_id)
    until("end of the pod", lambda: not af.containers(dag_id), seconds=30)
    return af.ended(dag_id)


def cleared(af: Deferred, dag_id: str) -> str:
    """Cleared while it waits: the next try is of another generation."""
    af.wait(dag_id, ", stop_grace=timedelta(seconds=2)")
    af.clear(dag_id, running=True)
    until("second program", lambda: af.path("ran", dag_id).read_text().count("ran") == 2)  # noqa: PLR2004
    return af.go_on(dag_id)


SCENARIOS: dict[str, Callable[[Deferred, str], str]] = {
    scenario.__name__: scenario
    for scenario in (
        undisturbed,
        of_a_lost_triggerer,
        of_a_restarted_triggerer,
        that_ended_without_a_triggerer,
        that_ended_and_was_deleted,
        of_a_lost_worker,
        edited,
        deleted,
        marked,
        cleared,
    )
}


def main(home: Path, options: dict[str, Any], wanted: list[str]) -> None:
    """Run the scenarios and write what came of them."""
    os.environ["AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD"] = str(HEALTHY)
    found: dict[str, Any] = {}
    with living(home, options, "scheduler", "triggerer") as (pods, processes):
        af = Deferred(pods.home, pods.namespace, pods.store)
        af.processes = processes
        for name in wanted or SCENARIOS:
            state = SCENARIOS[name](af, name)
            found[name] = {**pods_lived(af, name, state), "shown": af.shown(name)}
            (home / "lives.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]), sys.argv[3:])
