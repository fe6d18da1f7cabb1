# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import Terminal, call

GOOD = """\
apiVersion: mlops/v1
name: churn
defaults: {runtime: process}
environments:
  prod: {defaults: {retries: 2}}
steps:
  - {name: split, kind: preprocess, command: [sh, split.sh], outputs: {train: dataset, rows: integer}}
  - {name: fit, kind: train, inputs: {train: split.train}, command: [sh, fit.sh], outputs: {model: model}}
"""
BAD = GOOD.replace("split.train", "split.trian").replace("name: split, kind", "name: split, retreis: 1, kind")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_validate_says_pass_with_name_and_number_of_steps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(GOOD)
    said = call(capsys, "validate", "churn.yaml")
    assert (said.code, said.out, said.err) == (0, "PASS churn.yaml (churn, 2 steps)\n", "")


def test_validate_tells_all_errors_with_their_places(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(BAD)
    (folder / "other.yaml").write_text(GOOD)
    said = call(capsys, "validate", "churn.yaml", "other.yaml")
    assert said.code == 2
    first, second, third = said.out.splitlines()
    assert first.startswith("churn.yaml:7:19: ") and "did you mean 'retries'?" in first
    assert second.startswith("churn.yaml:8:") and "did you mean 'split.train'?" in second
    assert third == "PASS other.yaml (churn, 2 steps)"


def test_validate_tells_what_is_wrong_with_an_environment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(GOOD.replace("retries: 2", "runtime: podman"))
    said = call(capsys, "validate", "churn.yaml")
    assert said.code == 2
    assert said.out.startswith("churn.yaml:5:") and "'podman'" in said.out


def test_validate_finds_the_specs_of_a_folder_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b/churn.yaml", "a.yml", ".hidden/churn.yaml", "venv/churn.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(GOOD)
    (folder / "compose.yaml").write_text("services: {}\n")
    said = call(capsys, "validate", folder)
    assert said.code == 0
    assert said.out.splitlines() == [
        f"PASS {folder}/a.yml (churn, 2 steps)",
        f"PASS {folder}/b/churn.yaml (churn, 2 steps)",
    ]


def test_a_folder_without_a_spec_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "compose.yaml").write_text("services: {}\n")
    said = call(capsys, "validate", folder)
    assert said.code == 2
    assert "no spec in this folder" in said.err


def test_a_path_that_is_not_there_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "validate", "nothing.yaml").code == 2


def test_graph_draws_steps_and_what_they_hand_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(GOOD)
    said = call(capsys, "graph", "churn.yaml")
    assert said.code == 0
    assert said.out == (
        "churn\n"
        "├─ split [preprocess]\n"
        "│     makes train (dataset), rows (integer)\n"
        "└─ fit [train]\n"
        "      reads split.train\n"
        "      makes model (model)\n"
        "\n"
        "in this order, those of a line at the same time:\n"
        "  1  split\n"
        "  2  fit\n"
    )


def test_graph_and_run_take_a_folder_with_one_spec(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(GOOD)
    assert call(capsys, "graph", ".").out.startswith("churn\n")
    (folder / "other.yaml").write_text(GOOD.replace("churn", "other"))
    said = call(capsys, "run", ".")
    assert (said.code, "folder . has 2 specs (churn.yaml, other.yaml); expected one of them" in said.err) == (2, True)
    (folder / "empty").mkdir()
    assert "folder empty has no spec; expected a spec file" in call(capsys, "graph", "empty").err


def test_the_command_is_a_module_as_well(folder: Path) -> None:
    (folder / "churn.yaml").write_text(GOOD)
    said = subprocess.run(
        [sys.executable, "-m", "airflow_mlops", "validate", "churn.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (0, "PASS churn.yaml (churn, 2 steps)\n")


def test_graph_speaks_mermaid(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(GOOD)
    said = call(capsys, "graph", "churn.yaml", "--format", "mermaid")
    assert said.out.startswith("flowchart")
    assert "n_split" in said.out and "-->" in said.out


def test_graph_of_a_bad_spec_tells_its_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "churn.yaml").write_text(BAD)
    said = call(capsys, "graph", "churn.yaml")
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 2


def test_schema_is_json_that_knows_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "schema")
    assert "preprocess" in json.dumps(json.loads(said.out))


def test_twenty_steps_are_validated_in_a_third_of_a_second(tmp_path: Path) -> None:
    steps = "\n".join(
        f"  - {{name: s{number}, kind: train, inputs: {{train: split.train}}, command: [sh], outputs: {{m: model}}}}"
        for number in range(19)
    )
    (tmp_path / "big.yaml").write_text("\n".join(GOOD.splitlines()[:-1]) + "\n" + steps + "\n")
    user = Terminal(tmp_path)
    took = []
    # Seconds of CPU, so that other work on the machine counts less. The first run compiles; the best is what it costs.
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = user.run("validate", "big.yaml")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert said.out == "PASS big.yaml (churn, 20 steps)\n", said.err
    assert min(took) < 0.3
