# SPDX-License-Identifier: Apache-2.0
"""``shell`` opens the place where a step ran: real runs, real containers, and a real terminal where one is needed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.support import OWN_TERMINAL, PATIENCE, ROOT, Terminal, read_until
from tests.parts.docker import containers

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytest.importorskip("airflow")
pytestmark = [pytest.mark.airflow, pytest.mark.slow]

SPEC = """\
apiVersion: mlops/v1
name: looked-at
params: {word: hello}
source: src
steps:
  - name: make
    kind: preprocess
    runtime: process
    params: [word]
    command: [sh, make.sh]
    outputs: {text: {type: dataset, file: text.txt}, rows: integer}
  - name: measure
    kind: evaluate
    runtime: RUNTIME
    IMAGE
    env: {COLOUR: blue, SEEN: "{{ outputs.metrics.path }}"}
    secrets: {TOKEN: {variable: api_token, as: env}, KEY: {variable: api_key}}
    checkpoint: true
    inputs: {text: make.text, rows: make.rows}
    command: [sh, -c, 'echo 1 > $MLOPS_CHECKPOINT/epoch; sleep 0; exit 3', "{{ inputs.text.path }}"]
    outputs: {metrics: metrics}
"""
MAKE = 'echo $MLOPS_PARAM_WORD > "$MLOPS_OUTPUT_TEXT"; printf 7 > "$MLOPS_OUTPUT_ROWS"\n'
LOOK = """
cat $MLOPS_INPUT_TEXT $MLOPS_CHECKPOINT/epoch; cat make.sh; cat $MLOPS_SECRET_KEY; echo
echo $COLOUR $TOKEN $MLOPS_PARAM_ROWS $(basename $SEEN) $SEEN
echo 2 > $MLOPS_CHECKPOINT/epoch && touch $SEEN $HOME/note && exit 5
"""
SECRETS = {"AIRFLOW_VAR_API_TOKEN": "sesame-1", "AIRFLOW_VAR_API_KEY": "sesame-2"}


def user_with(home: Path, runtime: str, image: str = "", secrets: str | None = None) -> Terminal:
    """A user whose pipeline has failed at its second step; the code was edited since."""
    (home / "src").mkdir()
    (home / "src" / "make.sh").write_text(MAKE)
    text = SPEC.replace("RUNTIME", runtime).replace("    IMAGE\n", f"    image: {image}\n" if image else "")
    if secrets is not None:
        text = re.sub("    secrets: .*\n", secrets, text)
    (home / "looked-at.yaml").write_text(text)
    user = Terminal(home)
    said = user.run("run", "looked-at.yaml", "-p", "word=servus", **SECRETS)
    assert said.code == 1, said.out + said.err
    assert "ended with exit code 3" in said.out
    (home / "src" / "make.sh").write_text("echo edited since\n")
    return user


@pytest.fixture(scope="module")
def on_process(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return user_with(tmp_path_factory.mktemp("user"), "process")


@pytest.fixture(scope="module")
def on_docker(tmp_path_factory: pytest.TempPathFactory, docker_daemon: str, busybox_image: str) -> Terminal:
    return user_with(tmp_path_factory.mktemp("user"), "docker", "mlops-busybox:1")


def look(user: Terminal, **environment: str) -> None:
    """Look around twice: what the first visit writes is not there at the second."""
    before = all_files(user.home)
    for _ in range(2):
        said = user.run("shell", "last", "measure", "--", "sh", "-c", LOOK, **SECRETS, **environment)
        assert said.code == 5, said.out + said.err
        text, epoch, source, key, facts = said.out.splitlines()
        assert (text, epoch, source, key) == ("servus", "1", MAKE.strip(), "sesame-2")
        assert facts.startswith("blue sesame-1 7 metrics ")
        # What the environment says of paths holds where the program is now.
        assert facts.split()[-1] != "$SEEN"
    assert all_files(user.home) == before


def all_files(home: Path) -> dict[str, int]:
    """Files and their sizes, but for bytecode."""
    return {
        str(path): path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and "bytecode" not in path.parts and "__pycache__" not in path.parts
    }


def test_a_failed_process_can_be_looked_at_with_the_code_that_it_ran(on_process: Terminal) -> None:
    look(on_process)


@pytest.mark.docker
@pytest.mark.parametrize("transfer", ["bind", "auto"])
def test_a_failed_container_can_be_looked_at_and_nothing_is_left(on_docker: Terminal, transfer: str) -> None:
    look(on_docker, AIRFLOW__MLOPS__DOCKER_TRANSFER=transfer)
    assert containers() == []


@pytest.mark.docker
def test_a_daemon_that_does_not_see_our_files_is_no_hindrance(
    tmp_path: Path, docker_daemon: str, busybox_image: str
) -> None:
    user = user_with(tmp_path, "docker", "mlops-busybox:1", secrets="")
    program = "cat $MLOPS_INPUT_TEXT $MLOPS_CHECKPOINT/epoch"
    said = user.run("shell", "last", "measure", "--", "sh", "-c", program, AIRFLOW__MLOPS__DOCKER_TRANSFER="volume")
    assert (said.code, said.out) == (0, "servus\n1\n"), said.err
    assert containers() == []


def test_a_command_does_not_run_without_its_secrets(on_process: Terminal) -> None:
    said = on_process.run("shell", "last", "measure", "--", "echo", "ran", AIRFLOW_VAR_API_TOKEN="sesame-1")
    assert (said.code, said.out) == (2, "")
    assert "secret 'KEY'" in said.err and "AIRFLOW_VAR_API_KEY" in said.err
    assert folders(on_process) == []


@pytest.mark.docker
def test_the_container_is_no_attempt_of_the_task(on_docker: Terminal) -> None:
    labels = labels_of_a_visit(on_docker)
    said = {name for name, value in labels.items() if value}
    assert said == {"mlops.managed", "mlops.instance", "mlops.shell", "mlops.visitor"}
    assert containers() == []


def labels_of_a_visit(user: Terminal) -> dict[str, str]:
    """Labels of the container of a visitor that waits on a terminal, who then leaves."""
    with visitor(user) as (process, controller, said):
        assert b"step measure, try 1 of run" in said and b"it ran: sh -c" in said
        os.write(controller, b"echo w''orks; test -t 0 && echo termi''nal; cat $MLOPS_INPUT_TEXT\n")
        seen = read_until(controller, b"servus")
        assert b"works" in seen and b"terminal" in seen
        (container,) = containers()
        found = subprocess.check_output(["docker", "inspect", "--format", "{{json .Config.Labels}}", container])
        os.write(controller, b"\x03exit 9\n")  # Ctrl-C first: it is for the shell
        assert process.wait(PATIENCE) == 9
    labels: dict[str, str] = json.loads(found)
    return labels


@contextmanager
def visitor(
    user: Terminal, settings: Mapping[str, str] = SECRETS, size: tuple[int, int] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int, bytes]]:
    """
    Somebody on a terminal whose shell has begun: the process, the terminal's other end, and what was shown.

    :param settings: further variables of their environment
    :param size: lines and columns of the terminal
    """
    controller, terminal = pty.openpty()
    if size is not None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, "shell", "last", "measure"],
        env=user.environment | settings | {"TERM": "xterm"},
        cwd=user.home,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        seen = read_until(controller, b"leave with exit or Ctrl-D")
        # A Ctrl-D that comes before the shell reads is no end to the kernel's terminal: the test has its turn when the shell asks.
        os.write(controller, b"PS1='your t''urn: '\n")
        yield process, controller, seen + read_until(controller, b"your turn: ")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        with suppress(OSError):
            os.close(controller)


def folders(user: Terminal) -> list[str]:
    """Folders of a user's visits."""
    return [*map(str, (user.home / "tmp").glob("mlops-*/attempt.json"))]


def left(user: Terminal) -> list[str]:
    """Folders and containers of a user's visits."""
    return [*folders(user), *containers()]


@pytest.mark.docker
@pytest.mark.parametrize("end", ["terminal closed", "SIGTERM", "SIGHUP"])
def test_who_is_cut_off_leaves_nothing(on_docker: Terminal, end: str) -> None:
    with visitor(on_docker) as (process, controller, _):
        folder, _ = left(on_docker)
        secrets = Path("/dev/shm") / f"{Path(folder).parent.name}-secrets"
        assert secrets.exists()
        if end == "terminal closed":
            os.close(controller)
        else:
            process.send_signal(signal.Signals[end])
        assert process.wait(PATIENCE) == 128 + (15 if end == "SIGTERM" else 1)
    assert left(on_docker) == []
    assert not secrets.exists()


def test_a_process_that_is_cut_off_leaves_nothing(on_process: Terminal) -> None:
    with visitor(on_process) as (process, _, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + 15
    assert folders(on_process) == []


@pytest.mark.docker
def test_who_is_killed_leaves_what_clean_removes(on_docker: Terminal) -> None:
    with visitor(on_docker) as (process, _, _):
        alive = on_docker.run("clean", "--older-than", "30d", "--yes")
        assert "0 runs removed" in alive.out and len(left(on_docker)) == 2, alive.out
        process.kill()
        process.wait()
        assert len(left(on_docker)) == 2
        would = on_docker.run("clean", "--older-than", "30d")
        assert would.out.count("(airflow-mlops shell): would be removed") == 2
        assert on_docker.run("clean", "--older-than", "30d", "--yes").code == 0
        assert left(on_docker) == []


@pytest.mark.docker
def test_a_command_that_is_not_there_ends_as_in_a_shell(on_docker: Terminal) -> None:
    said = on_docker.run("shell", "last", "measure", "--", "nonesuch", **SECRETS)
    assert said.code == 127
    assert "executable file not found" in said.err


@pytest.mark.docker
def test_the_image_is_the_one_that_ran_whatever_has_its_name_now(
    tmp_path: Path, docker_daemon: str, busybox_image: str
) -> None:
    docker("tag", "mlops-busybox:1", "mlops-moved:1")
    try:
        user = user_with(tmp_path, "docker", "mlops-moved:1")
        other = docker("create", "mlops-busybox:1", "true")
        docker("commit", "--change", "ENV WHICH=new", other, "mlops-moved:1")
        docker("rm", other)
        said = user.run("shell", "last", "measure", "--", "sh", "-c", "echo which=$WHICH", **SECRETS)
        assert (said.code, said.out) == (0, "which=\n"), said.err
        (tmp_path / "made").mkdir()
        made = user_with(tmp_path / "made", "docker", "mlops-moved:1")
        docker("rmi", "mlops-moved:1")
        docker("tag", "mlops-busybox:1", "mlops-moved:1")
        said = made.run("shell", "last", "measure", "--", "sh", "-c", "echo which=$WHICH", **SECRETS)
        assert (said.code, said.out) == (0, "which=\n")
        assert "is gone; this is what is called mlops-moved:1 now" in said.err
    finally:
        docker("rmi", "mlops-moved:1")


def docker(*words: str) -> str:
    return subprocess.check_output(["docker", *words], text=True).strip()


def test_a_step_that_succeeded_can_be_looked_at_and_stays_as_it_was(on_process: Terminal) -> None:
    before = all_files(on_process.home)
    said = on_process.run("shell", "last", "make", "--", "sh", "-c", "sh make.sh && cat $MLOPS_OUTPUT_TEXT")
    assert (said.code, said.out) == (0, "servus\n"), said.err
    assert all_files(on_process.home) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["last", "measrue"], "did you mean 'measure'?"),
        (["last", "measure[x]"], "train[2]"),
        (["last", "measure[²]"], "train[2]"),
        (["never", "measure"], "no run 'never'"),
        (["last", "measure", "--", "nonesuch"], "cannot run 'nonesuch'"),
    ],
)
def test_what_cannot_be_opened_is_said(on_process: Terminal, words: list[str], expected: str) -> None:
    said = on_process.run("shell", *words, **SECRETS)
    assert said.code == 2
    assert expected in said.err
    assert "Traceback" not in said.err


def test_an_input_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    user = user_with(tmp_path, "process")
    (text,) = tmp_path.glob("mlops/store/**/text.txt")
    text.parent.chmod(0o755)
    text.chmod(0o644)
    text.write_text("forged\n")
    said = user.run("shell", "last", "measure", "--", "true", **SECRETS)
    assert said.code == 2
    assert "text.txt was changed after its commit" in said.err


DAG = """
from airflow.sdk import DAG
from airflow_mlops.operators import DockerContainerOperator
with DAG("deployed", schedule=None) as dag:
    DockerContainerOperator.partial(task_id="step", image="mlops-busybox:1", command=["sh", "-c", "exit 3"]).expand(
        env=[{"WHO": "a"}, {"WHO": "b"}])
"""


@pytest.mark.docker
def test_a_run_of_a_deployment_is_named_by_its_dag(run_dag: RunDag, docker_daemon: str, busybox_image: str) -> None:
    result: Any = run_dag(DAG)
    command = [sys.executable, "-m", "airflow_mlops", "shell", "--dag", "deployed", result.run_id, "step[1]"]
    said = subprocess.run(
        [*command, "--", "sh", "-c", "echo $WHO"], check=False, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (0, "b\n"), said.stderr
    assert containers() == []


@pytest.mark.docker
def test_evidence_of_a_local_run_is_kept_until_it_is_cleaned(
    tmp_path: Path, docker_daemon: str, busybox_image: str
) -> None:
    user = user_with(tmp_path, "docker", "mlops-busybox:1", secrets="    keep_failed: 1h\n")
    (container,) = containers()
    assert subprocess.run(["docker", "logs", container], check=False).returncode == 0
    assert [*tmp_path.glob("mlops/runs/**/mlops-*/tmp")] != []
    assert user.run("clean", "--all", "--yes").code == 0
    assert containers() == []
    assert [*tmp_path.glob("mlops/runs/*")] == []


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"HERE/pwned": {"type": "dataset", "path": "x", "uri": "URI", "digest": "none", "metadata": {}}}},
        {"inputs": {"text": {"type": "dataset", "path": "/x/inputs/text/../../pwned", "uri": "URI", "digest": "none", "metadata": {}}}},
        {"outputs": {"HERE/pwned": {"type": "dataset", "path": "x"}}},
        {"outputs": {"data": {"type": "dataset", "path": "/x/outputs/data/../../pwned"}}},
        {"outputs": {"data": {"type": "nonesuch", "path": "/x/outputs/data"}}},
        {"runtime": {"secrets": {"HERE/pwned": {"variable": "api_key"}}}},
        {"runtime": {"secrets": {"KEY": {"nonesuch": "api_key"}}}},
        {"runtime": {"root": ""}},
    ],
    ids=lambda change: json.dumps(change)[:40],
)  # fmt: skip
def test_a_seal_that_somebody_changed_writes_nothing_elsewhere(on_process: Terminal, change: dict[str, Any]) -> None:
    (path,) = on_process.home.glob("mlops/store/**/measure/-/1/step-1.json")
    (text,) = on_process.home.glob("mlops/store/**/text.txt")
    before = path.read_text()
    seal = json.loads(before)
    filled = json.loads(json.dumps(change).replace("HERE", str(on_process.home)).replace("URI", text.as_uri()))
    seal["runtime"].update(filled.pop("runtime", {}))
    seal["step"].update(filled)
    path.write_text(json.dumps(seal, sort_keys=True, separators=(",", ":")))
    try:
        said = on_process.run("shell", "last", "measure", "--", "true", **SECRETS)
        assert said.code == 2, said.out
        assert "Traceback" not in said.err and "AIRFLOW_MLOPS_DEBUG" not in said.err, said.err
        assert [*on_process.home.rglob("pwned")] == []
        assert folders(on_process) == []
    finally:
        path.write_text(before)
