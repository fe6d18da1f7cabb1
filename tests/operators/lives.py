# SPDX-License-Identifier: Apache-2.0
"""
Put steps through what happens to tasks: retries, clears, lost workers, runs made again.

A scheduler, an execution API and supervisors, all of them Airflow's own, as in ``tests/state_model``, whose parts this uses.
``python lives.py HOME [SCENARIO…]``, by default all, leaves ``HOME/lives.json``: by scenario, the state of the run,
how often the program of its one step ran, and the files that the step has in the store.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "state_model"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil
from experiment import running
from installation import Airflow, prepare, until

from tests.parts.processes import is_alive

PROGRAM = "echo ran >> {ran}; [ -s {fail} ] && sed -i 1d {fail} && exit 3; wc -l < {ran} > $MLOPS_OUTPUT_N"
STEP = (
    "from airflow_mlops.operators import ProcessContainerOperator; "
    'ProcessContainerOperator(task_id="step", command=["sh", "-c", {program!r}], outputs={{"n": "integer"}}, '
    "retries={retries}, infra_retries=1)"
)


WRAPPED = (
    "from airflow_mlops.operators.references import WrappedOperator; from airflow_mlops.operators.program import Program; "
    "WrappedOperator(task_id='step', class_path='wrapped.Deferring', arguments={arguments!r}, outputs={{'n': 'integer'}}, retries=1, "
    "infra_retries=1, program=Program())"
)


class Steps(Airflow):
    """An Airflow whose DAGs hold one step each, which counts how often its program ran."""

    def step(self, dag_id: str, retries: int = 1) -> None:
        """(Re)write the DAG."""
        program = PROGRAM.format(ran=self.path("ran", dag_id), fail=self.path("fail", dag_id))
        self.write(dag_id, retries, STEP.format(program=program, retries=retries))

    def wrap(self, dag_id: str, *, defer: bool) -> None:
        """(Re)write a DAG whose step is the operator of ``wrapped.py``."""
        shutil.copy(Path(__file__).with_name("wrapped.py"), self.home / "dags")
        arguments = {"ran": str(self.path("ran", dag_id)), "fail": str(self.path("fail", dag_id)), "defer": defer}
        self.write(dag_id, 1, WRAPPED.format(arguments=arguments))

    def path(self, what: str, dag_id: str) -> Path:
        """A file that the program looks at."""
        return self.home / f"{what}-{dag_id}"

    def fail(self, dag_id: str, times: int = 1) -> None:
        """Let the program fail when it runs next."""
        self.path("fail", dag_id).write_text("once\n" * times)

    def run(self, dag_id: str) -> str:
        """Trigger the DAG and wait for the run's end."""
        self.trigger(dag_id)
        return self.ended(dag_id)

    def run_again(self, dag_id: str) -> str:
        """Clear the run and wait for its end."""
        self.clear(dag_id)
        return self.ended(dag_id)

    def tries(self, dag_id: str) -> list[dict[str, Any]]:
        """What the database says of them."""
        return [{**row, "dag_id": dag_id} for row in self.rows(dag_id) if row["try_number"] and row["state"]]


def kill_worker(supervisor: int) -> None:
    """Kill a supervisor and its task process."""
    process = psutil.Process(supervisor)
    for one in [process, *process.children(recursive=True)]:
        one.send_signal(signal.SIGKILL)


def supervisor_of(af: Steps, dag_id: str) -> int:
    """The process id of the supervisor of a running try, which is kept in its next heartbeat."""
    af.hold(dag_id, "/heartbeat")
    return af.held(dag_id)


def retried(af: Steps, dag_id: str) -> str:
    af.fail(dag_id)
    af.step(dag_id)
    return af.run(dag_id)


def failed_too_often(af: Steps, dag_id: str) -> str:
    """Airflow would allow 22 tries; the step's own budget is one retry."""
    af.fail(dag_id, times=5)
    af.step(dag_id, retries=1)
    return af.run(dag_id)


def cleared_after_failure(af: Steps, dag_id: str) -> str:
    """A clear begins a generation, and a generation has budgets of its own."""
    af.fail(dag_id, times=3)
    af.step(dag_id, retries=1)
    af.run(dag_id)
    return af.run_again(dag_id)


def cleared(af: Steps, dag_id: str) -> str:
    af.step(dag_id)
    af.run(dag_id)
    return af.run_again(dag_id)


def edited_before_the_retry(af: Steps, dag_id: str) -> str:
    """The sum of Airflow's numbers says that the retry is a generation of its own; the claims know better."""
    af.fail(dag_id)
    af.step(dag_id, retries=2)
    af.hold(dag_id, "/state")
    af.trigger(dag_id)
    af.held(dag_id)
    af.step(dag_id, retries=1)
    af.noticed(dag_id)
    af.release(dag_id)
    return af.ended(dag_id)


def made_again(af: Steps, dag_id: str) -> str:
    cleared(af, dag_id)
    af.delete(dag_id)
    return af.run(dag_id)


def lost_after_the_commit(af: Steps, dag_id: str) -> str:
    """The worker dies when the manifest is there and Airflow has not heard of it."""
    af.hold(dag_id, "/return_value")
    af.step(dag_id)
    af.trigger(dag_id)
    kill_worker(af.held(dag_id))
    af.release(dag_id)
    return af.ended(dag_id)


def deferred(af: Steps, dag_id: str) -> str:
    """An operator that defers itself, fails once when it is resumed, and defers itself again."""
    af.fail(dag_id)
    af.wrap(dag_id, defer=True)
    return af.run(dag_id)


def wrapped_and_failing(af: Steps, dag_id: str) -> str:
    af.fail(dag_id, times=9)
    af.wrap(dag_id, defer=False)
    return af.run(dag_id)


def gate_of_a_lost_worker(af: Steps, dag_id: str) -> str:
    """The worker dies when the verdict is committed and Airflow has not heard that the gate is closed."""
    shutil.copy(Path(__file__).with_name("dying.py"), af.home / "dags")
    body = (
        f"from dying import DyingGate; DyingGate(task_id='step', ran={str(af.path('ran', dag_id))!r}, parameters={{'n': 1}}, "
        "require=['params.n > 2'])"
    )
    af.write(dag_id, 0, body)
    return af.run(dag_id)


def process_of_a_lost_worker(af: Steps, dag_id: str) -> str:
    """The program of the first try would run for ten minutes; its shell has a child."""
    ran, pid = af.path("ran", dag_id), af.path("pid", dag_id)
    program = (
        f"[ -e {ran} ] && again=1; echo ran >> {ran}; "
        f"[ $again ] || {{ sleep 600 & echo $$ $! > {pid}; wait; }}; echo 1 > $MLOPS_OUTPUT_N"
    )
    af.write(dag_id, 0, STEP.format(program=program, retries=0))
    af.trigger(dag_id)
    until("running program", lambda: pid.exists() and pid.read_text())
    supervisor = supervisor_of(af, dag_id)
    for process in (psutil.Process(supervisor), *psutil.Process(supervisor).children()):
        process.send_signal(signal.SIGKILL)
    af.release(dag_id)
    state = af.ended(dag_id)
    left = [number for number in pid.read_text().split() if is_alive(int(number))]
    return f"{state}, but {left} live" if left else state


SCENARIOS: dict[str, Callable[[Steps, str], str]] = {
    scenario.__name__: scenario
    for scenario in (
        retried,
        failed_too_often,
        cleared,
        cleared_after_failure,
        edited_before_the_retry,
        made_again,
        lost_after_the_commit,
        process_of_a_lost_worker,
        gate_of_a_lost_worker,
        deferred,
        wrapped_and_failing,
    )
}


def lived(af: Steps, dag_id: str, state: str, store: Path) -> dict[str, Any]:
    """
    What came of a scenario.

    :param store: the folder that the store's files are in
    """
    ran = af.path("ran", dag_id).read_text().count("ran") if af.path("ran", dag_id).exists() else 0
    folder = next(store.glob(f"*/{dag_id}/run-1/step/-"))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    manifests = [json.loads((folder / file).read_text()) for file in files if file.endswith("manifest.json")]
    parameters = manifests[-1]["parameters"] if manifests else {}
    return {"state": state, "ran": ran, "files": files, "parameters": parameters}


def main(home: Path, wanted: list[str]) -> None:
    """Run the scenarios and write what came of them."""
    prepare(home)
    os.environ["AIRFLOW__MLOPS__ALLOWED_OPERATORS"] = "wrapped.*"
    af = Steps(home)
    found: dict[str, Any] = {}
    with running("scheduler", "triggerer"):
        for name in wanted or SCENARIOS:
            found[name] = lived(af, name, SCENARIOS[name](af, name), home / "mlops")
    (home / "lives.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
