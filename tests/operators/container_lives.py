# SPDX-License-Identifier: Apache-2.0
"""
Put Docker steps through what happens to their workers: killed at every moment, drained, cut off, cleared.

As ``lives.py``, with a proxy before the daemon, and before the store if that is S3, which holds the moment open. ``python
container_lives.py HOME OPTIONS SCENARIO…``; OPTIONS is JSON: ``store``, ``storage_options``, ``transfer``, the ``folder`` with the store's
files, ``s3_port`` of the server and ``proxy_port`` that ``storage_options`` name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "state_model"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import docker
import psutil
from experiment import running
from installation import prepare, until
from lives import Steps, kill_worker, lived, supervisor_of

from tests.parts.processes import is_alive
from tests.parts.proxy import Proxy, Rule

CONTAINER = (
    "from airflow_mlops.operators import DockerContainerOperator; "
    "DockerContainerOperator(task_id='step', image='mlops-busybox:1', command=['sh', '-c', {program!r}], outputs={{'n': 'integer'}}, "
    "volumes=[{{'source': {home!r}, 'target': {home!r}}}]{more})"
)


class Containers(Steps):
    """Steps that run in containers of a daemon behind a proxy."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.daemon = docker.APIClient(os.environ["REAL_DOCKER_HOST"], version="auto")
        self.proxies: list[Proxy] = []
        self.store = home / "mlops"

    def contain(self, dag_id: str, program: str, more: str = "") -> None:
        """(Re)write a DAG of one container."""
        self.write(dag_id, 0, CONTAINER.format(program=program, home=str(self.home), more=more))

    def rule(self, pattern: str, deed: Any) -> list[Rule]:
        """Hold or break something, whichever proxy it passes."""
        return [proxy.rule(pattern, deed) for proxy in self.proxies]

    def containers(self, dag_id: str) -> list[dict[str, Any]]:
        """Those of a scenario, running or not."""
        found: list[dict[str, Any]] = self.daemon.containers(all=True, filters={"label": f"mlops.dag={dag_id}"})
        return found

    def most_alive(self, dag_id: str, since: int) -> int:
        """How many of its containers lived at the same time, at most."""
        now = int(datetime.fromisoformat(self.daemon.info()["SystemTime"][:19] + "+00:00").timestamp()) + 1
        filters = {"label": f"mlops.dag={dag_id}", "event": ["start", "die"]}
        alive = most = 0
        for event in self.daemon.events(since=since, until=now, filters=filters, decode=True):
            alive += 1 if event["Action"] == "start" else -1
            most = max(most, alive)
        return most


def cleared_while_running(af: Containers, dag_id: str) -> str:
    """The first container runs for ten minutes unless it is stopped."""
    ran = af.path("ran", dag_id)
    program = (
        f"trap 'exit 143' TERM; [ -e {ran} ] && again=1; echo ran >> {ran}; "
        "[ $again ] || { sleep 600 & wait; }; echo 1 > $MLOPS_OUTPUT_N"
    )
    af.contain(dag_id, program)
    af.trigger(dag_id)
    until("running container", ran.exists)
    af.clear(dag_id, running=True)
    return af.ended(dag_id)


def _waiting(af: Containers, dag_id: str) -> str:
    """A program that ends when it is told to, for ten minutes."""
    ran, go = af.path("ran", dag_id), af.path("go", dag_id)
    return f"echo ran >> {ran}; n=0; until [ -e {go} ] || [ $n = 600 ]; do sleep 1; n=$((n+1)); done; wc -l < {ran} > $MLOPS_OUTPUT_N"


def _started(af: Containers, dag_id: str, more: str = "") -> int:
    """Run it; the process id of its supervisor."""
    af.contain(dag_id, _waiting(af, dag_id), more)
    af.trigger(dag_id)
    until("running container", af.path("ran", dag_id).exists)
    return supervisor_of(af, dag_id)


def _followed(af: Containers, dag_id: str) -> str:
    """Let the second try begin before the program may end."""
    af.release(dag_id)
    until("second try", lambda: any(row["try_number"] == 2 and row["state"] == "running" for row in af.tries(dag_id)))
    af.path("go", dag_id).touch()
    return af.ended(dag_id)


def of_a_lost_worker(af: Containers, dag_id: str) -> str:
    """Supervisor and task process die; the retry follows the container to its end."""
    kill_worker(_started(af, dag_id))
    return _followed(af, dag_id)


def that_ended_unseen(af: Containers, dag_id: str) -> str:
    kill_worker(_started(af, dag_id))
    af.path("go", dag_id).touch()
    af.release(dag_id)
    return af.ended(dag_id)


def of_a_lost_supervisor(af: Containers, dag_id: str) -> str:
    """The task process lives on and must do no harm."""
    psutil.Process(_started(af, dag_id)).send_signal(signal.SIGKILL)
    return _followed(af, dag_id)


def of_another_spec(af: Containers, dag_id: str) -> str:
    """The retry would start something else than what runs."""
    kill_worker(_started(af, dag_id))
    program = f"echo ran >> {af.path('ran', dag_id)}; echo 77 > $MLOPS_OUTPUT_N"
    af.contain(dag_id, program)
    af.noticed(dag_id)
    af.release(dag_id)
    return af.ended(dag_id)


def committed_by_a_lost_worker(af: Containers, dag_id: str) -> str:
    af.hold(dag_id, "/return_value")
    af.contain(dag_id, _waiting(af, dag_id))
    af.path("go", dag_id).touch()
    af.trigger(dag_id)
    kill_worker(af.held(dag_id))
    af.release(dag_id)
    return af.ended(dag_id)


WINDOWS: dict[str, tuple[str, str]] = {
    "before_create": (r"POST .*/containers/create", "hold request"),
    "before_start": (r"POST .*/start$", "hold request"),
    "while_running": (r"POST .*/wait", "hold request"),
    "after_exit": (r"GET .*/containers/[0-9a-f]{12,}/json", "hold request"),
    "while_harvesting": (r"GET .*/archive", "hold answer"),
    "before_commit": (r"PUT .*manifest\.json", "hold request"),
}
"""Moments of a try: the request that is held while its worker is killed."""


def killed(window: str, victim: str) -> Callable[[Containers, str], str]:
    """
    A try whose worker dies at some moment.

    :param victim: ``worker`` (supervisor and task process), ``task`` or ``supervisor``, whose task process lives on
    """

    def scenario(af: Containers, dag_id: str) -> str:
        ran, go = af.path("ran", dag_id), af.path("go", dag_id)
        af.contain(
            dag_id,
            f"echo ran >> {ran}; n=0; until [ -e {go} ] || [ $n = 600 ]; do sleep 0.1; n=$((n+1)); done; wc -l < {ran} > $MLOPS_OUTPUT_N",
        )
        if window != "while_running":
            go.touch()
        rules = af.rule(*WINDOWS[window])
        af.trigger(dag_id)
        until(f"{window} of {dag_id}", lambda: any(rule.reached.is_set() for rule in rules))
        if window == "while_running":
            until("running container", ran.exists)
        if window == "after_exit":
            until("ended container", lambda: [c["State"] for c in af.containers(dag_id)] == ["exited"])
        supervisor = psutil.Process(supervisor_of(af, dag_id))
        (task,) = supervisor.children()
        for rule in rules:
            rule.closed.set()
        if victim != "task":
            supervisor.send_signal(signal.SIGKILL)
        if victim != "supervisor":
            task.send_signal(signal.SIGKILL)
        af.release(dag_id)
        go.touch()
        if victim == "supervisor":
            # What the orphan asked for reaches the daemon when the next try is at work, or has ended.
            until("second try", lambda: any(row["try_number"] == 2 and row["state"] for row in af.tries(dag_id)))
            until("second claim", lambda: [*af.store.glob(f"*/{dag_id}/run-1/step/-/1/claim-2.json")])
        for rule in rules:
            rule.released.set()
        state = af.ended(dag_id)
        until("end of the task process", lambda: not is_alive(task))
        return state

    return scenario


KILLED = {
    f"{victim}_killed_{window}": killed(window, victim)
    for window in WINDOWS
    for victim in ("worker", "task", "supervisor")
}


def six_times(af: Containers, dag_id: str) -> str:
    """Six workers in a row are killed."""
    supervisor = _started(af, dag_id)
    for number in range(2, 8):
        kill_worker(supervisor)
        af.release(dag_id)
        claim = f"*/{dag_id}/run-1/step/-/1/claim-{number}.json"
        until(f"try {number}", lambda claim=claim: [*af.store.glob(claim)])
        supervisor = supervisor_of(af, dag_id)
    af.release(dag_id)
    af.path("go", dag_id).touch()
    return af.ended(dag_id)


def while_retries_is_edited(af: Containers, dag_id: str) -> str:
    """The spec changes, and the worker dies."""
    supervisor = _started(af, dag_id)
    af.contain(dag_id, _waiting(af, dag_id), ", retries=5")
    kill_worker(supervisor)
    return _followed(af, dag_id)


def while_airflow_stands_still(af: Containers, dag_id: str) -> str:
    """The API server answers nothing for a minute."""
    _started(af, dag_id)
    af.hold(dag_id, "")
    end = time.monotonic() + 60
    until("end of the minute", lambda: time.monotonic() > end, seconds=70)
    af.release(dag_id)
    af.path("go", dag_id).touch()
    return af.ended(dag_id)


def drained(af: Containers, dag_id: str) -> str:
    """The worker is asked to end, as a deploy does. Below Airflow 3.3 a supervisor does not heed that, and is killed when its time is over."""
    from airflow import __version__

    supervisor = psutil.Process(_started(af, dag_id))
    af.release(dag_id)
    supervisor.send_signal(signal.SIGTERM)
    if __version__ < "3.3":
        kill_worker(supervisor.pid)
    until("second try", lambda: any(row["try_number"] == 2 and row["state"] == "running" for row in af.tries(dag_id)))
    af.path("go", dag_id).touch()
    return af.ended(dag_id)


def drained_and_stopped(af: Containers, dag_id: str) -> str:
    """The same for a step that is not to outlive its worker; the second one ends at once."""
    ran = af.path("ran", dag_id)
    program = f"trap 'exit 0' TERM; [ -e {ran} ] && again=1; echo ran >> {ran}; [ $again ] || {{ sleep 600 & wait; }}; echo 1 > $MLOPS_OUTPUT_N"
    af.contain(dag_id, program, ", on_drain='stop'")
    af.trigger(dag_id)
    until("running container", ran.exists)
    supervisor = psutil.Process(supervisor_of(af, dag_id))
    af.release(dag_id)
    supervisor.send_signal(signal.SIGTERM)
    return af.ended(dag_id)


def deaf(af: Containers, dag_id: str) -> str:
    """A program that ignores SIGTERM, for ten minutes."""
    return (
        f"trap '' TERM; echo ran >> {af.path('ran', dag_id)}; n=0; while [ $n -lt 600 ]; do sleep 1; n=$((n+1)); done"
    )


def marked(af: Containers, dag_id: str) -> str:
    """Marked as failed, with a grace that is longer than Airflow's patience with the task process, and a program that ignores SIGTERM."""
    ran = af.path("ran", dag_id)
    af.contain(dag_id, deaf(af, dag_id), f", stop_grace=timedelta(seconds={GRACE})")
    af.trigger(dag_id)
    until("running container", ran.exists)
    supervisor = psutil.Process(supervisor_of(af, dag_id))
    (task,) = supervisor.children()
    af.release(dag_id)
    af.mark_failed(dag_id)
    until("end of the task process", lambda: not is_alive(task))
    # The task process is gone before its program: somebody else sees to that.
    outlived = "outlived" if af.containers(dag_id) else "not outlived"
    until("end of the container", lambda: not af.containers(dag_id), seconds=GRACE + 30)
    scratch = Path(os.environ["AIRFLOW__MLOPS__WORK_DIR"])
    until("end of the scratch folder", lambda: not [*scratch.glob("mlops-*")])
    return f"{af.ended(dag_id)}, {outlived}"


def abandoned(af: Containers, dag_id: str) -> str:
    """The worker dies, and before another one follows somebody marks the task as failed. Nobody is left for the container but ``clean``."""
    # The next try is far off: one that is about to begin takes no notice of a mark.
    kill_worker(_started(af, dag_id, ", retry_delay=timedelta(hours=1)"))
    af.release(dag_id)
    until("lost try", lambda: any(row["state"] == "up_for_retry" for row in af.tries(dag_id)))
    af.mark_failed(dag_id)
    state = af.ended(dag_id)
    (container,) = af.containers(dag_id)
    attempt = container["Labels"]["mlops.attempt"]

    def left() -> str:
        found = {
            "container": [one["State"] for one in af.containers(dag_id)],
            "scratch": [*Path(os.environ["AIRFLOW__MLOPS__WORK_DIR"]).glob(f"mlops-{attempt}")],
            "attempt": [*af.store.glob(f"*/{dag_id}/run-1/step/-/1/{attempt}")],
        }
        return "+".join(name for name, things in found.items() if things) or "nothing"

    before = left()
    clean = [
        sys.executable,
        "-m",
        "airflow_mlops",
        "clean",
        "--deployment",
        "--dag",
        dag_id,
        "--older-than",
        "1s",
        "--yes",
    ]
    until("end of the task long enough ago", lambda: "just ended" not in _output(clean))
    unasked = left()
    _output([*clean, "--stop-running"])
    return f"{state}; {before}; {unasked}; {left()}"


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


GRACE = 12
"""Seconds; Airflow's patience is 5."""


SCENARIOS: dict[str, Callable[[Containers, str], str]] = {
    **{
        scenario.__name__: scenario
        for scenario in (
            cleared_while_running,
            of_a_lost_worker,
            that_ended_unseen,
            of_a_lost_supervisor,
            of_another_spec,
            committed_by_a_lost_worker,
            six_times,
            while_retries_is_edited,
            while_airflow_stands_still,
            drained,
            drained_and_stopped,
            marked,
            abandoned,
        )
    },
    **KILLED,
}


def main(home: Path, options: dict[str, Any], wanted: list[str]) -> None:
    """Run the scenarios and write what came of them."""
    real = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not real.startswith("unix://"):
        raise SystemExit(f"DOCKER_HOST is {real}; expected a Unix socket, before which a proxy can be put")
    prepare(home)
    os.environ.update(
        REAL_DOCKER_HOST=real,
        DOCKER_HOST=f"unix://{home}/docker.sock",
        AIRFLOW__MLOPS__ALLOWED_VOLUMES=str(home),
        AIRFLOW__MLOPS__WORK_DIR=str(home / "work"),
    )
    for name in ("store", "storage_options", "docker_transfer", "instance"):
        if name in options:
            os.environ[f"AIRFLOW__MLOPS__{name.upper()}"] = options[name]
    af = Containers(home)
    af.store = Path(options.get("folder", af.store))
    found: dict[str, Any] = {}
    with running("scheduler"):
        # After the fork of the scheduler, since the proxies have threads.
        af.proxies = [Proxy(f"{home}/docker.sock", real.removeprefix("unix://"))]
        if "s3_port" in options:
            af.proxies.append(Proxy(("127.0.0.1", options["proxy_port"]), ("127.0.0.1", options["s3_port"])))
        for name in wanted:
            since = int(time.time())
            state = SCENARIOS[name](af, name)
            left = [container["Id"] for container in af.containers(name)]
            found[name] = {**lived(af, name, state, af.store), "alive": af.most_alive(name, since), "left": left}
            (home / "lives.json").write_text(json.dumps(found, indent=1))
    for proxy in af.proxies:
        proxy.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]), sys.argv[3:])
