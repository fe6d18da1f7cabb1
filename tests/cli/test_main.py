# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.cli.main import COMMANDS
from tests.cli.support import Terminal, call

SPEC = """\
apiVersion: mlops/v1
name: tiny
defaults: {runtime: process}
steps:
  - {name: one, kind: container, command: [sh, -c, "exit 0"]}
"""


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "--help")
    assert said.code == 0
    assert all(f"\n  {name} " in said.out for name in COMMANDS)


def test_an_unknown_command_is_told_on_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "valdate")
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "did you mean 'validate'?" in said.err


def test_an_unknown_option_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "validate", "--fast", ".")
    assert said.code == 2
    # the words between are click's, which has changed them
    assert re.fullmatch(
        r"airflow-mlops validate: no such option:? '?--fast'? \(see airflow-mlops validate --help\)\n", said.err
    )


def test_an_unexpected_error_shows_no_traceback_unless_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> dict[str, object]:
        raise RuntimeError("boom")

    monkeypatch.setattr("airflow_mlops.spec.spec_schema", fail)
    said = call(capsys, "schema")
    assert said.code == 2
    assert said.err == "RuntimeError: boom (set AIRFLOW_MLOPS_DEBUG=1 to see where in the code)\n"
    monkeypatch.setenv("AIRFLOW_MLOPS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        call(capsys, "schema")


def test_the_reader_of_the_output_may_go_early(tmp_path: Path) -> None:
    process = Terminal(tmp_path).start("schema")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.wait(60)
    assert process.returncode == 1
    assert process.stderr.read() == ""


@pytest.mark.parametrize("words", [["validate"], ["graph"], ["render", "one"]])
def test_commands_that_only_read_import_no_airflow(tmp_path: Path, words: list[str]) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    command, *rest = words
    code = (
        "import sys; from airflow_mlops.cli.main import main; "
        f"code = main([{command!r}, {str(spec)!r}, *{rest!r}]); "
        "heavy = {'airflow', 'typer', 'rich', 'docker', 'fsspec', 'jinja2', 'jsonschema'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if heavy or code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=Terminal(tmp_path).environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_output_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m airflow_mlops runs >&- 2>&-"
    done = subprocess.run(["sh", "-c", command], env={**os.environ, "AIRFLOW_MLOPS_HOME": str(tmp_path)}, check=False)
    assert done.returncode == 0
