# SPDX-License-Identifier: Apache-2.0
"""``runs show``: a run as its folder and the store tell of it, whoever wrote there."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import Artifact, Manifest, Place, Seal, Store, commit
from airflow_mlops.artifacts.manifest import SealedRun, SealedStep
from airflow_mlops.artifacts.metrics import read_metrics
from airflow_mlops.cli.embedded.model import TaskResult
from airflow_mlops.cli.embedded.runs import new_run_directory, release, tasks_as_json, update_record
from airflow_mlops.cli.records import Order, write_order
from tests.cli.support import ROOT, Terminal, call

EXAMPLES = ROOT / "tests/artifacts/metrics"
NOW = datetime.now(UTC)
HOSTILE = "\x1b[2J\u202e\x9b1m"

Say = Callable[..., str]


def examples() -> dict[str, Any]:
    """All the shapes of the documentation in one document."""
    found: dict[str, Any] = {}
    for file in sorted(EXAMPLES.glob("*.json")):
        found |= json.loads(file.read_text())
    return found


class Run:
    """
    A run's folder and what its steps committed.

    :param store: where, a folder
    """

    def __init__(self, store: Path) -> None:
        self.folder = new_run_directory("tiny")
        self.store = Store.open(store.as_uri())
        self.order = Order(
            self.folder.name, "tiny", "/tiny.yaml", store.as_uri(), "local-1", environment="dev", params={"C": 0.5}
        )
        self._tasks: list[TaskResult] = []
        write_order(self.folder, self.order)

    def place(self, step: str) -> Place:
        return Place.of_task(self.order.instance, "tiny", self.order.run_id, step, -1, generation=1)

    def measure(self, step: str, document: dict[str, Any], *, digest: str = "", uri: str = "") -> Path:
        """Let a step commit a metrics output; its file is returned."""
        place = self.place(step)
        run = {"id": place.run, "instance": place.instance, "generation": 1, "try": 1, "attempt": "a1", "starter": "x"}
        seal = Seal(
            step=SealedStep(pipeline="tiny", name=step, kind="evaluate", runtime="process"),
            run=SealedRun.model_validate(run),
        )
        data = json.dumps(document).encode()
        key = f"{place.outputs_key('a1')}/metrics"
        self.store.put_if_absent(key, data)
        digest = digest or f"sha256:{hashlib.sha256(data).hexdigest()}"
        artifact = Artifact("metrics", "metrics", uri or self.store.uri(key), digest, len(data))
        scalars = {name: value for name, value in document.items() if not isinstance(value, dict)}
        commit(
            self.store,
            place,
            Manifest.of(
                place,
                attempt="a1",
                try_number=1,
                seal=seal,
                artifacts={"metrics": artifact},
                metrics={"metrics": scalars},
                kind="evaluate",
            ),
        )
        self.add(step, "success")
        path = self.store.local_path(key)
        assert path is not None
        return path

    def add(self, step: str, state: str) -> None:
        self._tasks.append(TaskResult(step, -1, state, 1, NOW, NOW + timedelta(seconds=2), None))

    def end(self, state: str = "success") -> str:
        update_record(
            self.folder, state=state, ended=NOW.isoformat(), tasks=tasks_as_json(self.folder, tuple(self._tasks))
        )
        release(self.folder)
        return self.folder.name


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that is under way."""
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(tmp_path / "home"))
    for name in ("FORCE_COLOR", "NO_COLOR", "AIRFLOW__MLOPS__STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "store").mkdir()
    return Run(tmp_path / "store")


@pytest.fixture
def show(run: Run, capsys: pytest.CaptureFixture[str]) -> Say:
    """What ``runs show`` prints."""

    def say(*words: str, code: int = 0) -> str:
        said = call(capsys, "runs", "show", *words)
        assert said.code == code, said.err
        return said.err if code else said.out

    return say


def test_a_run_is_shown_with_its_steps_and_every_shape(run: Run, show: Say) -> None:
    run.measure("check", examples())
    name = run.end()
    text = show("last")
    assert f"run      {name}" in text
    assert "spec     /tiny.yaml  -e dev" in text
    assert "params   C 0.5" in text
    assert re.search(r"^check +success +accuracy 0.96 +metrics", text, re.MULTILINE)
    assert "check.metrics\nmetric " in text
    assert "roc  Malignant against benign\ntrue positive rate\n  1 ┤" in text
    assert re.search(r"^ +0 +0\.5 +1\n +false positive rate$", text, re.MULTILINE)
    assert "* train   + validation" in text
    assert "rows: what it is, columns: what it was called\n" in text
    assert re.search(r"^benign +██ 76 +4\nmalignant +1 +▒▒ 47$", text, re.MULTILINE)
    assert re.search(r"^malignant +0.922 +0.979 +48 +null", text, re.MULTILINE)
    assert "One tumour was missed.\nIts threshold is 0.48.\n" in text


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_no_line_of_metrics_is_wider_than_the_terminal(
    run: Run, show: Say, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    wide = {"type": "table", "columns": [f"column {n}" for n in range(50)], "rows": [["x" * 99] * 50] * 30}
    run.measure("check", {**examples(), "wide": wide})
    run.end()
    monkeypatch.setenv("COLUMNS", str(columns))
    text = show("last")
    metrics = text[text.index("check.metrics") : text.index("the whole of them")]
    assert max(map(len, metrics.splitlines())) <= columns
    fitting = (columns + 2) // 26
    assert f"… 10 more rows, {50 - fitting} more columns\n" in metrics


def test_a_terminal_with_ascii_alone_is_given_ascii(tmp_path: Path, run: Run) -> None:
    run.measure("check", {**examples(), "ü": 1})
    run.end()
    done = subprocess.run(
        [sys.executable, "-m", "airflow_mlops", "runs", "show", "last"],
        env=Terminal(tmp_path).environment
        | {"AIRFLOW_MLOPS_HOME": str(tmp_path / "home"), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("ascii")
    assert "  1 +" in text and "## 76" in text and "* train   + validation" in text


def test_colours_tell_lines_and_shades_apart_where_there_are_some(
    run: Run, show: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.measure("check", examples())
    run.end()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = show("last")
    assert "\x1b[36m━━\x1b[0m train   \x1b[33m━━\x1b[0m validation" in coloured
    assert re.search(r"\x1b\[38;5;\d+;48;5;\d+m +76 ?\x1b\[0m", coloured)
    assert "██" not in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "* train   + validation" in show("last")


@pytest.mark.parametrize("columns", [5, 10, 80])
def test_odd_shapes_and_terminals_are_no_error(
    run: Run, show: Say, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    document = {
        "wide": {"type": "matrix", "values": [[1] * 100_000], "labels": ["a"]},
        "square": {"type": "matrix", "values": [[n] * 30 for n in range(30)], "labels": ["x"] * 30},
        "plain": {"type": "matrix", "values": [[5, -5.5], [5, 5]]},
        "hollow": {"type": "matrix", "values": [[], []]},
        "none": {"type": "table", "columns": [], "rows": [[], []]},
        "foreign": {"type": "table", "columns": ["日本語"], "rows": [["日" * 99]]},
        "point": {"type": "curve", "x": [3], "y": [4]},
        "lines": {"type": "text", "text": "a\r\n\r\nb"},
    }
    run.measure("check", document)
    run.end()
    monkeypatch.setenv("COLUMNS", str(columns))
    text = show("last")
    assert "\na\n\nb\n" in text and "more character" not in text
    if columns == 80:
        assert re.search(r"^plain\n██ 5  -5\.5\n██ 5  ██ 5$", text, re.MULTILINE)
        assert re.search(r"^… 999\d\d more columns$", text, re.MULTILINE)


def test_one_step_of_several_is_shown(run: Run, show: Say) -> None:
    run.measure("a", {"x": 1})
    run.measure("group.b", {"y": 2})
    run.end()
    text = show("last", "group/b")
    assert "group/b.metrics" in text and "a.metrics" not in text
    assert show("last", "group.b") == text
    assert "has no step 'group/c'; expected one of a, group/b; did you mean 'group/b'?" in show(
        "last", "group/c", code=2
    )


def test_the_same_file_is_drawn_once(run: Run, show: Say) -> None:
    run.measure("a", examples())
    run.measure("b", examples())
    run.end()
    text = show("last")
    assert "b.metrics\nthe same as a.metrics\n" in text
    assert text.count("One tumour") == 1


def test_json_has_what_run_prints_and_the_shapes(run: Run, show: Say) -> None:
    run.measure("check", examples())
    name = run.end()
    document = json.loads(show("last", "--json"))
    assert (document["run"], document["state"], document["alive"]) == (name, "success", False)
    assert (document["environment"], document["params"]) == ("dev", {"C": 0.5})
    step = document["steps"]["check"]
    assert step["metrics"] == {"metrics": {"accuracy": 0.96, "auc": 0.9956, "rows": 128}}
    shapes = {key: value for key, value in examples().items() if isinstance(value, dict)}
    assert (step["shapes"], step["unreadable"]) == ({"metrics": shapes}, {})


# What is not as it should be


def test_a_run_that_goes_on_shows_the_steps_that_logged(run: Run, show: Say) -> None:
    run.measure("a", {"x": 1})
    for step in ("a", "b"):
        log = run.folder / f"logs/dag_id=tiny/run_id=r/task_id={step}/attempt=1.log"
        log.parent.mkdir(parents=True)
        log.touch()
    try:
        text = show("last")
    finally:
        release(run.folder)
    assert "still running" in text
    assert re.search(r"^a +success.*\nb +running", text, re.MULTILINE)
    assert re.search(r"^b +stopped", show("last"), re.MULTILINE)  # nothing holds the run any more: it was killed


@pytest.mark.parametrize("damage", ["changed", "gone", "large"])
def test_a_file_that_is_not_what_was_committed_is_said_and_not_drawn(run: Run, show: Say, damage: str) -> None:
    path = run.measure("check", {"accuracy": 0.5, "note": {"type": "text", "text": "original"}})
    run.end()
    path.unlink()
    if damage != "gone":
        path.write_text('{"note": {"type": "text", "text": "smuggled"}}' + " " * (damage == "large") * (1 << 20))
    text = show("last")
    assert "its shapes cannot be shown: " in text
    assert re.search(r"^accuracy +0.5", text, re.MULTILINE)
    assert "smuggled" not in text and "original" not in text
    step = json.loads(show("last", "--json"))["steps"]["check"]
    assert step["shapes"] == {"metrics": {}} and str(path) in step["unreadable"]["metrics"]


def test_metrics_outside_of_the_store_are_not_read(run: Run, show: Say, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"note": {"type": "text", "text": "secret"}}')
    digest = f"sha256:{hashlib.sha256(secret.read_bytes()).hexdigest()}"
    run.measure("check", {}, uri=secret.as_uri(), digest=digest)
    run.end()
    assert f"it was imported and is not in the store; it lies at {secret.as_uri()}" in show("last")


def test_nothing_that_a_program_wrote_commands_the_terminal(run: Run, show: Say) -> None:
    text = f"a{HOSTILE}\x07b\rc"
    line = {"x": [0, 1], "y": [0, 1]}
    document = {
        "roc": {"type": "curve", "series": [{"name": text, **line}], "x_label": text, "y_label": text, "title": text},
        "matrix": {"type": "matrix", "values": [[1]], "labels": [text], "x_label": text, "y_label": text},
        "table": {"type": "table", "columns": [text], "rows": [[text]]},
        "text": {"type": "text", "text": text},
    }
    run.measure("check", document)
    run.end()
    for said in (show("last"), show("last", "--json")):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)


def test_names_in_a_manifest_do_not_command_the_terminal_either(run: Run, show: Say) -> None:
    run.measure("check", {f"a{HOSTILE}": 1, "note": {"type": "text", "text": "x"}})
    run.end()
    text = show("last")
    assert "\x1b" not in text and "\x9b" not in text
    assert "expected printable characters" in text


def test_the_largest_file_is_shown_soon_and_in_few_lines(run: Run, show: Say) -> None:
    many = 30_000
    zigzag = {"type": "curve", "x": [n % 7 for n in range(many)], "y": [(-1) ** n * n for n in range(many)]}
    extreme = {"type": "curve", "x": [-1.7e308, 1.7e308, 0], "y": [5e-324, 0, 5e-324]}
    document = {
        **{f"n{n}": n for n in range(200)},
        "zigzag": zigzag,
        "extreme": extreme,
        "table": {"type": "table", "columns": ["n"], "rows": [[n] for n in range(many)]},
        "matrix": {"type": "matrix", "values": [[1.5] * 200] * 200},
        "text": {"type": "text", "text": "line\n" * many},
        **{f"t{n}": {"type": "text", "text": ""} for n in range(50)},
        "none": {"type": "curve", "x": [], "y": []},
    }
    assert read_metrics(json.dumps(document).encode())
    run.measure("check", document)
    run.end()
    before = time.process_time()
    text = show("last")
    assert time.process_time() - before < 4
    assert text.count("\n") < 300
    for note in (
        "… 150 more numbers",
        "… 29980 more rows",
        "… 180 more rows, ",
        f"… {5 * many - 100} more characters",
        "… 36 more shapes",
    ):
        assert note in text


# The list


def test_the_list_is_what_runs_prints_without_a_command(
    run: Run, show: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    name = run.end()
    assert json.loads(call(capsys, "runs", "--json").out)[0]["run"] == name
    assert name in call(capsys, "runs", "-n", "5").out
    for words in (["--json"], ["-n", "5"]):
        said = call(capsys, "runs", *words, "show", "last")
        assert (said.code, "is of the list" in said.err) == (2, True)


def test_the_schema_of_metrics_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "schema", "metrics")
    assert json.loads(said.out) == json.loads(
        (ROOT / "airflow_mlops/artifacts/schemas/metrics.schema.json").read_text()
    )
    assert call(capsys, "schema").out == call(capsys, "schema", "spec").out
