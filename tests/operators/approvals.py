# SPDX-License-Identifier: Apache-2.0
"""
Put approvals through what happens to them: answers, timeouts, clears, lost workers.

As ``lives.py``, whose parts this uses, with a scheduler and a triggerer of Airflow's own. All scenarios go on at once, since they wait most of
the time. ``python approvals.py HOME`` leaves ``HOME/approvals.json``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_mlops.artifacts import Artifact, Store, digest_path
from airflow_mlops.registry import FileRegistry, promote
from tests.operators.lives import Steps, lived, prepare, running, until

USER = "ada"


class Approvals(Steps):
    """An Airflow whose DAGs hold one approval each, which notes how often it asks."""

    def approval(self, dag_id: str, arguments: str = "", cls: str = "CountedApproval") -> None:
        """Write the DAG."""
        shutil.copy(Path(__file__).with_name("dying.py"), self.home / "dags")
        text = f"from dying import {cls}; {cls}(task_id='step', ran={str(self.path('ran', dag_id))!r}, {arguments})"
        self.write(dag_id, 0, text)

    def asked(self, dag_id: str, tries: int = 1) -> Any:
        """Wait until a try asks."""
        from airflow_mlops.cli.embedded.questions import open_questions

        def found() -> Any:
            return next((one for one in open_questions(dag_id, "run-1") if one.try_number == tries), None)

        return until(f"question {tries} of {dag_id}", found)

    def answer(self, dag_id: str, option: str, note: str = "", tries: int = 1) -> None:
        """Wait for the question and answer it."""
        from airflow_mlops.cli.embedded.model import Reply
        from airflow_mlops.cli.embedded.questions import give

        give(dag_id, "run-1", self.asked(dag_id, tries), Reply(option, USER, {"note": note}))

    def state(self, dag_id: str) -> str:
        """The state of the step."""
        return str(max(self.tries(dag_id), key=lambda row: row["try_number"])["state"])


Scenario = Callable[[Approvals, str], str]
SCENARIOS: dict[str, tuple[str, Scenario]] = {}


def scenario(arguments: str = "", cls: str = "CountedApproval") -> Callable[[Scenario], Scenario]:
    """Say which approval a scenario is about."""

    def keep(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__] = f"{arguments}|{cls}", function
        return function

    return keep


@scenario("retries=2")
def approved(af: Approvals, dag_id: str) -> str:
    af.answer(dag_id, "Approve", note="good enough")
    return af.ended(dag_id)


@scenario("retries=2")
def rejected(af: Approvals, dag_id: str) -> str:
    af.answer(dag_id, "Reject")
    return af.ended(dag_id)


@scenario("on_reject='skip'")
def rejected_to_skip(af: Approvals, dag_id: str) -> str:
    af.answer(dag_id, "Reject")
    return af.ended(dag_id)


@scenario("step_timeout=timedelta(seconds=1), default='approve'")
def late_with_a_default(af: Approvals, dag_id: str) -> str:
    return af.ended(dag_id)


@scenario("step_timeout=timedelta(seconds=1), retries=2")
def late(af: Approvals, dag_id: str) -> str:
    return af.ended(dag_id)


@scenario("execution_timeout=timedelta(seconds=20)")
def cleared(af: Approvals, dag_id: str) -> str:
    """A clear asks again, and what was answered before is kept."""
    af.answer(dag_id, "Approve")
    af.ended(dag_id)
    af.clear(dag_id)
    af.answer(dag_id, "Reject", tries=2)
    return af.ended(dag_id)


@scenario()
def cleared_while_it_waits(af: Approvals, dag_id: str) -> str:
    af.asked(dag_id)
    af.clear(dag_id)
    af.answer(dag_id, "Approve", tries=2)
    return af.ended(dag_id)


@scenario("retries=2", "DyingApproval")
def lost_when_it_was_rejected(af: Approvals, dag_id: str) -> str:
    """The worker dies when the answer is committed and Airflow has not heard what follows."""
    af.answer(dag_id, "Reject")
    return af.ended(dag_id)


@scenario("parameters={'ask': False}, when='params.ask == true'")
def not_asked(af: Approvals, dag_id: str) -> str:
    return af.ended(dag_id)


@scenario("parameters={}, when='params.ask == true'")
def not_certain_whether_to_ask(af: Approvals, dag_id: str) -> str:
    af.answer(dag_id, "Approve")
    return af.ended(dag_id)


@scenario("inputs={'champion': 'models:scored@champion'}")
def answered_when_the_champion_is_another_one(af: Approvals, dag_id: str) -> str:
    """There is none when it asks, and one when it is answered."""
    af.asked(dag_id)
    store = Store.open(f"file://{af.home}/mlops")
    instance = (af.home / "mlops" / "_instances" / "default").read_text().strip()
    file = af.home / "model.bin"
    file.write_text("weights")
    found = digest_path(file)
    artifact = Artifact("model", "model", file.as_uri(), found.digest, found.size)
    registry = FileRegistry(store, instance)
    promote(registry, "scored", registry.register("scored", artifact, by="me", local=file)[0].version, by="me")
    af.answer(dag_id, "Approve")
    return af.ended(dag_id)


def _end_of(af: Approvals, name: str) -> str:
    """How a scenario ended: the state of its run, or what never came, for the one test that is about it."""
    try:
        return SCENARIOS[name][1](af, name)
    except TimeoutError as error:
        return str(error)


def main(home: Path) -> None:
    """Run the scenarios and write what came of them."""
    prepare(home)
    os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] = "True"
    af = Approvals(home)
    with running("scheduler", "triggerer"):
        for name, (given, _) in SCENARIOS.items():
            arguments, _, cls = given.partition("|")
            af.approval(name, arguments, cls)
            af.trigger(name)
        with ThreadPoolExecutor(len(SCENARIOS)) as pool:
            ends = {name: pool.submit(_end_of, af, name) for name in SCENARIOS}
        found = {
            name: {**lived(af, name, end.result(), home / "mlops"), "step": af.state(name)}
            for name, end in ends.items()
        }
    (home / "approvals.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
