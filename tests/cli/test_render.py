# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.support import call

SPEC = """\
apiVersion: mlops/v1
name: churn
params: {C: 1.0, note: "it's"}
source: ./src
defaults: {runtime: docker, image: "python:3.12"}
steps:
  - name: data
    kind: import
    uri: file:///data/raw.csv
    type: dataset
  - name: split
    kind: preprocess
    inputs: {raw: data.dataset}
    command: [python, split.py]
    outputs: {train: {type: dataset, file: train.csv}, rows: integer}
  - name: fit
    kind: train
    params: [C]
    inputs: {train: split.train, rows: split.rows}
    command: [python, fit.py, "--note={{ params.note }}", "--rows={{ inputs.rows }}"]
    args: ["{{ inputs.train.path }}", "{{ outputs.model.path }}", "{{ run.id }}"]
    env: {SPACED: "a b"}
    secrets:
      TOKEN: {variable: hub, as: env}
      KEY: {variable: key}
    resources: {cpu: 1.5, memory: 2Gi, gpu: 1, shm: 256Mi}
    volumes: [{source: /data, target: /data, read_only: true}]
    docker: {network_mode: host, docker_conn_id: prod}
    outputs: {model: {type: model, file: model.json}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("split.py", "fit.py"):
        (tmp_path / "src" / name).touch()
    file = tmp_path / "churn.yaml"
    file.write_text(SPEC)
    return file


def words(text: str) -> list[str]:
    """A printed command as the words that a shell makes of it."""
    return shlex.split(text.replace("\\\n", " "))


def pairs(line: list[str], flag: str) -> list[str]:
    return [line[index + 1] for index, word in enumerate(line) if word == flag]


def test_a_docker_step_is_one_docker_run(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "render", spec, "fit", "-p", "C=0.5")
    assert said.code == 0
    line = words(said.out)
    assert line[:3] == ["docker", "run", "--rm"]
    assert pairs(line, "--workdir") == ["/mlops/source"]
    assert pairs(line, "--cpus") == ["1.5"]
    assert pairs(line, "--memory") == pairs(line, "--memory-swap") == [str(2 << 30)]
    assert pairs(line, "--gpus") == ["1"]
    assert pairs(line, "--network") == ["host"]
    assert pairs(line, "--entrypoint") == ["python"]
    assert line[line.index("python:3.12") :] == [
        "python:3.12",
        "fit.py",
        "--note=it's",
        "--rows=<split.rows>",
        "/mlops/inputs/train/train.csv",
        "/mlops/outputs/model/model.json",
        "<run>",
    ]


def test_the_contracts_variables_and_mounts_are_shown(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = words(call(capsys, "render", spec, "fit", "-p", "C=0.5").out)
    variables = dict(item.split("=", 1) for item in pairs(line, "--env"))
    assert variables["MLOPS_PARAM_C"] == "0.5"
    assert variables["MLOPS_PARAM_ROWS"] == "<split.rows>"
    assert variables["MLOPS_INPUT_TRAIN"] == "/mlops/inputs/train/train.csv"
    assert variables["MLOPS_OUTPUT_MODEL"] == "/mlops/outputs/model/model.json"
    assert variables["SPACED"] == "a b"
    mounts = pairs(line, "--mount")
    train = "type=bind,source=<store>/<run>/split/outputs/train/train.csv,target=/mlops/inputs/train/train.csv,readonly"
    assert train in mounts
    assert "type=bind,source=/data,target=/data,readonly" in mounts


def test_secrets_are_shown_by_name_alone(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = words(call(capsys, "render", spec, "fit").out)
    variables = dict(item.split("=", 1) for item in pairs(line, "--env"))
    assert variables["TOKEN"] == "<variable hub>"
    assert variables["MLOPS_SECRET_KEY"] == "/mlops/secrets/KEY"


def test_what_has_no_place_on_a_command_line_is_said_beside_it(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "render", spec, "fit").err == "not part of the command line: docker docker_conn_id\n"


def test_an_imported_file_is_mounted_from_where_it_lies(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mounts = pairs(words(call(capsys, "render", spec, "split").out), "--mount")
    assert "type=bind,source=/data/raw.csv,target=/mlops/inputs/raw,readonly" in mounts


def test_a_process_step_is_its_program_with_its_environment(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = words(call(capsys, "render", spec, "fit", "--runtime", "process").out)
    assert line[:4] == ["env", "-i", "-C", "<scratch>/source"]
    assert "MLOPS_INPUT_TRAIN=<scratch>/inputs/train/train.csv" in line
    assert line[-7:-5] == ["python", "fit.py"]


def test_a_step_that_runs_no_program_has_no_command_line(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "render", spec, "data")
    assert said.code == 2
    assert "is of kind import, which runs no program" in said.err


def test_an_unknown_step_is_refused_with_the_nearest(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "render", spec, "fitt")
    assert said.code == 2
    assert "expected one of data, split, fit; did you mean 'fit'?" in said.err
