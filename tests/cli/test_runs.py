# SPDX-License-Identifier: Apache-2.0
"""Real runs, each in a process of its own. A run costs seconds: what looks back at one shares it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import airflow_mlops
from tests.cli.support import Said, Terminal, finish

pytest.importorskip("airflow")
pytestmark = pytest.mark.airflow

SPEC = """\
apiVersion: mlops/v1
name: tiny
params:
  word: hello
  fail: false
  pids: {type: string, default: ""}
defaults: {runtime: process}
steps:
  - name: make
    kind: preprocess
    params: [word, pids]
    command: [sh, make.sh]
    outputs: {text: {type: dataset, file: text.txt}, rows: integer}
  - name: measure
    kind: evaluate
    params: [fail]
    inputs: {text: make.text, rows: make.rows}
    command: [sh, -c, 'cat "{{ inputs.text.path }}"; if $MLOPS_PARAM_FAIL; then echo broken on purpose; exit 3; fi; printf "{\\"score\\": 0.5, \\"rows\\": $MLOPS_PARAM_ROWS}" > "{{ outputs.metrics.path }}"']
    outputs: {metrics: {type: metrics, keys: [score, rows]}}
source: src
"""  # noqa: E501 - one line of shell
MAKE = """\
echo making $MLOPS_PARAM_WORD
if [ -n "$MLOPS_PARAM_PIDS" ]; then echo $$ > "$MLOPS_PARAM_PIDS"; sleep 600; fi
echo $MLOPS_PARAM_WORD > "$MLOPS_OUTPUT_TEXT"
printf 7 > "$MLOPS_OUTPUT_ROWS"
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    home = tmp_path_factory.mktemp("user")
    (home / "src").mkdir()
    (home / "tiny.yaml").write_text(SPEC)
    (home / "src" / "make.sh").write_text(MAKE)
    return Terminal(home)


@pytest.fixture(scope="module")
def good(user: Terminal) -> dict[str, Any]:
    """The document of a run that went well."""
    said = user.run("run", "tiny.yaml", "-p", "word=servus", "--json")
    assert said.code == 0, said.err
    document: dict[str, Any] = json.loads(said.out)
    return document


@pytest.fixture(scope="module")
def bad(user: Terminal, good: dict[str, Any]) -> Said:
    """What a run printed that failed."""
    return user.run("run", "tiny.yaml", "-p", "fail=true")


def test_json_holds_what_each_step_made(user: Terminal, good: dict[str, Any]) -> None:
    assert (good["pipeline"], good["state"]) == ("tiny", "success")
    make, measure = good["steps"]["make"], good["steps"]["measure"]
    assert (make["state"], make["tries"], make["parameters"], make["error"]) == ("success", 1, {"rows": 7}, None)
    assert measure["metrics"] == {"metrics": {"score": 0.5, "rows": 7}}
    text = make["artifacts"]["text"]
    assert (text["type"], text["size"]) == ("dataset", len("servus\n"))
    assert text["digest"].startswith("sha256:")
    path = Path(text["uri"].removeprefix("file://"))
    assert path.read_text() == "servus\n"
    assert path.is_relative_to(user.home / "mlops" / "store")
    assert text["uri"].startswith(good["store"] + "/")


def test_a_failed_run_shows_the_end_of_the_log_and_why(bad: Said) -> None:
    assert bad.code == 1
    assert "  broken on purpose\n" in bad.out
    assert "measure: its program ended with exit code 3" in bad.out
    assert "Traceback" not in bad.out + bad.err
    assert bad.err == ""


def test_a_run_that_is_not_watched_prints_a_line_for_each_event_and_a_table(bad: Said) -> None:
    assert "s  make: running\n" in bad.out
    assert "s  make: success\n" in bad.out
    assert "s  measure: failed\n" in bad.out
    assert "\x1b" not in bad.out
    header, make, *_ = bad.out[bad.out.index("step ") :].splitlines()
    assert header.split() == ["step", "state", "time", "metrics", "artifacts"]
    assert make.split()[:2] == ["make", "success"]
    assert "rows 7" in make and "text/text.txt 6 B" in make


def test_bad_values_end_a_run_before_it_starts(user: Terminal, good: dict[str, Any]) -> None:
    before = user.run("runs", "--json").out
    said = user.run("run", "tiny.yaml", "-p", "fail=perhaps", "-p", "wrod=x")
    assert (said.code, said.out) == (2, "")
    assert "-p fail=perhaps: the value is not a boolean" in said.err and "did you mean 'word'?" in said.err
    assert user.run("runs", "--json").out == before


def test_runs_are_listed_the_newest_first(user: Terminal, good: dict[str, Any], bad: Said) -> None:
    listed = json.loads(user.run("runs", "--json").out)
    states = {run["run"]: (run["pipeline"], run["state"], run["alive"]) for run in listed}
    assert states[good["run"]] == ("tiny", "success", False)
    assert [run["started"] for run in listed] == sorted((run["started"] for run in listed), reverse=True)
    assert ("tiny", "failed", False) in states.values()
    table = user.run("runs").out
    assert good["run"] in table and "failed" in table


def test_logs_print_what_a_step_printed(user: Terminal, good: dict[str, Any]) -> None:
    said = user.run("logs", good["run"], "make")
    assert said.code == 0
    assert "making servus\n" in said.out
    assert "DAG bundles loaded" not in said.out
    assert "DAG bundles loaded" in user.run("logs", good["run"], "make", "--all").out
    assert user.run("logs", good["run"]).out == "make\nmeasure\n"


def test_logs_of_an_unknown_step_name_those_there_are(user: Terminal, good: dict[str, Any]) -> None:
    said = user.run("logs", good["run"], "maek")
    assert said.code == 2
    assert "expected one of make, measure; did you mean 'make'?" in said.err


def test_a_notebook_reads_what_a_local_run_has_made(
    user: Terminal, good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(user.home / "mlops"))
    assert airflow_mlops.read(good["run"], "make", "rows") == 7
    assert airflow_mlops.read(good["run"], "make", "text").read_text() == "servus\n"
    assert airflow_mlops.read(good["run"], "measure", "metrics") == {"score": 0.5, "rows": 7}


def test_artifacts_are_listed_and_shown(user: Terminal, good: dict[str, Any]) -> None:
    listed = user.run("artifacts", "list", good["run"])
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()[1:3]] == ["make.text", "measure.metrics"]
    shown = json.loads(user.run("artifacts", "show", good["run"], "make.text").out)
    assert shown["make.text"]["digest"] == good["steps"]["make"]["artifacts"]["text"]["digest"]
    assert json.loads(user.run("artifacts", "show", good["run"], "make.rows").out) == {"make.rows": {"value": 7}}
    parameter = user.run("artifacts", "get", good["run"], "make.rows")
    assert (parameter.code, "is a parameter, not an artifact" in parameter.err) == (2, True)


IMPORTING = """\
apiVersion: mlops/v1
name: importing
defaults: {runtime: process}
steps:
  - {name: load, kind: import, uri: lake/data.csv, type: dataset}
  - {name: use, kind: container, inputs: {data: load.dataset}, command: [cat, "{{ inputs.data.path }}"]}
"""


def test_an_import_is_relative_to_its_spec_and_stays_where_it_is(user: Terminal) -> None:
    lake = user.home / "specs" / "lake"
    lake.mkdir(parents=True)
    (lake / "data.csv").write_text("rows\n")
    (lake.parent / "importing.yaml").write_text(IMPORTING)
    said = user.run("run", "specs", "--json")
    assert said.code == 0, said.err
    run = json.loads(said.out)["run"]
    assert json.loads(said.out)["steps"]["load"]["artifacts"]["dataset"]["uri"] == (lake / "data.csv").as_uri()
    alone = user.run("step", "specs", "load")
    assert alone.code == 0, alone.err
    for place in ("specs/lake/data.csv", "specs/lake", "unrelated"):
        (user.home / "unrelated").write_text("mine")
        got = user.run("artifacts", "get", run, "load.dataset", place, "--force")
        assert (got.code, "was imported and is not in the store; nothing was copied" in got.err) == (2, True)
        assert (lake / "data.csv").read_text() == "rows\n"
        assert (user.home / "unrelated").read_text() == "mine"
    (lake / "data.csv").unlink()
    gone = user.run("run", "specs")
    assert (gone.code, "retrying" in gone.out) == (1, False)
    assert "does not exist on this worker; expected the file or folder to import" in gone.out


def test_a_copy_that_fails_takes_nothing_away(user: Terminal, good: dict[str, Any]) -> None:
    kept = user.home / "kept.txt"
    kept.write_text("mine")
    stored = Path(good["steps"]["make"]["artifacts"]["text"]["uri"].removeprefix("file://"))
    content = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(b"changed")
    try:
        said = user.run("artifacts", "get", good["run"], "make.text", kept, "--force")
    finally:
        stored.write_bytes(content)
        stored.chmod(0o444)
    assert (said.code, "was changed since" in said.err) == (2, True)
    assert kept.read_text() == "mine"
    assert sorted(path.name for path in user.home.iterdir() if "kept" in path.name) == ["kept.txt"]
    assert user.run("artifacts", "get", good["run"], "make.text", kept, "--force").code == 0
    assert kept.read_text() == "servus\n"


def test_a_string_is_handed_to_a_step_alone_as_it_is(user: Terminal) -> None:
    step = '{name: b, kind: container, inputs: {v: a.v}, command: [sh, -c, \'printf "<%s>" "$MLOPS_PARAM_V"\']}'
    maker = "{name: a, kind: container, outputs: {v: string}, command: [sh, -c, 'printf \"x\\\\n\\\\n\" > $MLOPS_OUTPUT_V']}"
    text = f"apiVersion: mlops/v1\nname: exact\ndefaults: {{runtime: process}}\nsteps:\n  - {maker}\n  - {step}\n"
    (user.home / "exact.yaml").write_text(text)
    assert user.run("run", "exact.yaml").code == 0
    assert user.run("logs", "exact", "b").out.rstrip().endswith("<x\n>")
    assert user.run("step", "exact.yaml", "b", "--from-run", "last").code == 0
    assert user.run("logs", "last", "b").out.rstrip().endswith("<x\n>")


@pytest.mark.parametrize("word", ["pids=a\udcffb", "word=\udcff"])
def test_a_value_that_is_refused_leaves_no_run(user: Terminal, good: dict[str, Any], word: str) -> None:
    before = user.run("runs", "--json").out
    said = user.run("run", "tiny.yaml", "-p", word)
    assert (said.code, "expected UTF-8" in said.err) == (2, True)
    assert user.run("runs", "--json").out == before


def test_a_store_that_is_a_file_is_refused_before_anything_runs(user: Terminal) -> None:
    for place in ("tiny.yaml", ""):
        said = user.run("run", "tiny.yaml", "--store", place)
        assert (said.code, "is no folder; expected a folder, or a URL" in said.err) == (2, True)


def test_a_place_that_cannot_be_written_is_not_the_stores_fault(user: Terminal, good: dict[str, Any]) -> None:
    (user.home / "a-file").touch()
    for place in ("a-file/below/it", "/proc/nowhere/x"):
        said = user.run("artifacts", "get", good["run"], "make.text", place)
        assert said.code == 2
        assert f"{place}: cannot be written: " in said.err


def test_a_home_that_is_a_file_is_told_by_the_name_of_its_variable(user: Terminal) -> None:
    (user.home / "no-folder").touch()
    said = user.run("runs", AIRFLOW_MLOPS_HOME=str(user.home / "no-folder"))
    assert said.code == 2
    assert said.err.startswith(f"{user.home}/no-folder: File exists; expected a folder for local runs")
    assert "AIRFLOW_MLOPS_HOME names another one" in said.err


def test_an_artifact_is_copied_once(user: Terminal, good: dict[str, Any]) -> None:
    assert user.run("artifacts", "get", good["run"], "make.text", "copy.txt").code == 0
    assert (user.home / "copy.txt").read_text() == "servus\n"
    again = user.run("artifacts", "get", good["run"], "make.text", "copy.txt")
    assert again.code == 2 and "exists already" in again.err


def test_all_artifacts_are_copied_by_step(user: Terminal, good: dict[str, Any]) -> None:
    (user.home / "out").mkdir()
    assert user.run("artifacts", "get", good["run"], "out").code == 0
    assert sorted(
        str(path.relative_to(user.home / "out")) for path in (user.home / "out").rglob("*") if path.is_file()
    ) == [
        "make/text/text.txt",
        "measure/metrics",
    ]


def test_a_step_runs_alone_on_what_a_run_made(user: Terminal, good: dict[str, Any]) -> None:
    said = user.run("step", "tiny.yaml", "measure", "--from-run", good["run"], "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["steps"]["measure"]["metrics"] == {"metrics": {"score": 0.5, "rows": 7}}
    assert "servus" in user.run("logs", document["run"], "measure").out
    # The run of one step is the newest, but not what "last" means where the others' artifacts are wanted.
    again = user.run("step", "tiny.yaml", "measure", "--from-run", "last", "-p", "fail=true")
    assert again.code == 1 and "broken on purpose" in again.out


def test_a_step_runs_alone_on_given_files(user: Terminal) -> None:
    (user.home / "own.txt").write_text("mine\n")
    said = user.run("step", "tiny.yaml", "measure", "--input", "text=own.txt", "--input", "rows=9")
    assert said.code == 0, said.err
    # What stood in for the step that makes the inputs is no part of the result.
    assert [line.split()[0] for line in said.out.splitlines() if " success " in line] == ["measure"]
    assert "score 0.5" in said.out
    assert "tiny, step measure, succeeded after" in said.out


def test_a_step_without_its_inputs_says_how_to_give_them(user: Terminal) -> None:
    said = user.run("step", "tiny.yaml", "measure", "--input", "rows=9")
    assert said.code == 2
    assert "step 'measure' reads make.text; give --from-run RUN (such as last), or --input text=PATH" in said.err


def test_ctrl_c_stops_the_run_and_leaves_no_process(user: Terminal) -> None:
    pids = user.home / "pids"
    process = user.start("run", "tiny.yaml", "-p", f"pids={pids}")
    await_true(lambda: pids.exists() and pids.read_text().endswith("\n"))
    program = int(pids.read_text())
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert said.code == 130
    assert "stopping the steps that run" in said.out
    assert "make: stopped\n" in said.out
    assert "retrying" not in said.out
    assert "tiny was stopped" in said.out
    await_true(lambda: not lives(program))
    assert of_session(process.pid) == []


STUBBORN = """\
apiVersion: mlops/v1
name: stubborn
params: {pids: ""}
steps:
  - name: deaf
    kind: container
    runtime: process
    params: [pids]
    secrets: {TOKEN: {variable: token}}
    command: [sh, -c, "trap '' TERM INT; echo $$ > $MLOPS_PARAM_PIDS; sleep 600; sleep 600"]
"""


def start_stubborn(user: Terminal) -> tuple[subprocess.Popen[str], int, Path]:
    """A run of a program that does not heed signals: the run, the program's process id, its scratch folder."""
    (user.home / "stubborn.yaml").write_text(STUBBORN)
    pids = user.home / "deaf"
    pids.unlink(missing_ok=True)
    process = user.start("run", "stubborn.yaml", "-p", f"pids={pids}", AIRFLOW_VAR_TOKEN="hush-hush-value")
    await_true(lambda: pids.exists() and pids.read_text().endswith("\n"))
    newest = sorted((user.home / "mlops" / "runs").glob("*stubborn*"))[-1]
    return process, int(pids.read_text()), next((newest / "work").glob("mlops-*"))


def test_a_second_ctrl_c_kills_what_does_not_end_and_leaves_nothing(user: Terminal) -> None:
    process, program, workspace = start_stubborn(user)
    secret = Path("/dev/shm") / f"{workspace.name}-secrets"
    assert secret.exists()
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert any("stopping the steps that run" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert said.code == 130
    await_true(lambda: not lives(program))
    assert not secret.exists()
    assert not workspace.parent.exists()
    assert of_session(process.pid) == []


def test_clean_removes_what_a_killed_run_left(user: Terminal) -> None:
    process, program, workspace = start_stubborn(user)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    await_true(lambda: [run for run in json.loads(user.run("runs", "--json").out) if run["alive"]] == [])
    said = user.run("clean", "--run", "stubborn", "--yes")
    assert said.code == 0, said.err
    assert not lives(program)
    assert not workspace.exists()
    assert not (Path("/dev/shm") / f"{workspace.name}-secrets").exists()


def test_a_run_that_is_out_of_time_says_so_and_not_that_it_tries_again(user: Terminal) -> None:
    said = user.run("run", "tiny.yaml", "-p", f"pids={user.home / 'late'}", "--timeout", "8s")
    assert said.code == 1
    assert "stopping the steps that run" in said.out
    assert "retrying" not in said.out
    assert "tiny ran out of time and was stopped" in said.out


def test_two_runs_at_once_do_not_disturb_each_other_and_clean_removes_them(user: Terminal) -> None:
    first, second = (user.start("run", "tiny.yaml", "-p", f"word={word}", "--json") for word in ("one", "two"))
    documents = [json.loads(said.out) for said in (finish(first), finish(second))]
    assert [document["state"] for document in documents] == ["success", "success"]
    texts = [
        Path(document["steps"]["make"]["artifacts"]["text"]["uri"].removeprefix("file://")) for document in documents
    ]
    assert [path.read_text() for path in texts] == ["one\n", "two\n"]

    run = documents[0]["run"]
    would = user.run("clean", "--run", run)
    assert would.code == 0 and documents[0]["store"] in would.out and texts[0].exists()
    assert user.run("clean", "--run", run, "--yes").code == 0
    assert not Path(documents[0]["store"].removeprefix("file://")).exists()
    assert not (user.home / "mlops" / "runs" / run).exists()
    assert texts[1].exists()


def await_true(holds: Callable[[], bool], patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def of_session(session: int) -> list[int]:
    """Processes that a command started and that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and lives(int(entry.name)):
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found
