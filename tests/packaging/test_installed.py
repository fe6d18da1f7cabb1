# SPDX-License-Identifier: Apache-2.0
"""
The built wheel beside an Airflow: its commands know us, ours are there, and nobody complains about us.

Each test is a process of Airflow's, which takes seconds to start.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import airflow_mlops
from airflow_mlops.cli.airflow_commands import HELP
from airflow_mlops.operators.version_compat import AIRFLOW_V_3_2_PLUS
from airflow_mlops.provider import get_provider_info
from tests.parts.clean_environment import SECONDS, CleanEnvironment, Said

pytestmark = [pytest.mark.airflow, pytest.mark.packaging, pytest.mark.slow]

DISTRIBUTION = "airflow-provider-mlops"
COMPLAINT = re.compile(r"(?i)warn|error|critical|exception|traceback|failed")
NEEDS_PROVIDER_COMMANDS = pytest.mark.skipif(
    not AIRFLOW_V_3_2_PLUS, reason="Airflow 3.1 takes no commands from providers; that they are absent there is tested"
)

SLEEPS = """\
apiVersion: mlops/v1
name: sleeps
defaults: {runtime: process}
steps:
  - {name: sleep, kind: container, command: [sh, -c, "echo $$ > PID; sleep 600"]}
"""


def complaints(said: Said) -> list[str]:
    """Lines that say that something is wrong and name us."""
    return [line for line in (said.out + said.err).splitlines() if "mlops" in line and COMPLAINT.search(line)]


@pytest.fixture(scope="module")
def home(migrated: tuple[Path, Said]) -> Path:
    """The home."""
    return migrated[0]


def test_the_database_is_migrated_without_a_complaint(migrated: tuple[Path, Said]) -> None:
    home, said = migrated
    assert said.code == 0, said.err
    assert (home / "airflow.db").stat().st_size > 100_000
    assert complaints(said) == []


def test_nothing_of_the_checkout_is_imported(installed: CleanEnvironment, home: Path) -> None:
    program = (
        "import airflow_mlops, airflow_provider_mlops as name; print(airflow_mlops.__file__); print(name.__file__)"
    )
    done = subprocess.run([installed.python, "-c", program], cwd=home, capture_output=True, text=True, check=True)
    assert [line.startswith(f"{installed.folder}/") for line in done.stdout.splitlines()] == [True, True]


def test_providers_list_has_us(installed: CleanEnvironment, home: Path) -> None:
    said = installed.run(home, "airflow", "providers", "list", "--output", "json")
    assert said.code == 0, said.err
    ours = [one for one in json.loads(said.out) if one["package_name"] == DISTRIBUTION]
    assert [one["version"] for one in ours] == [airflow_mlops.__version__]
    assert complaints(said) == []


def test_providers_get_says_what_we_are(installed: CleanEnvironment, home: Path) -> None:
    said = installed.run(home, "airflow", "providers", "get", DISTRIBUTION, "--full", "--output", "json")
    assert said.code == 0, said.err
    (described,) = json.loads(said.out)
    assert described["name"] == get_provider_info()["name"]
    assert complaints(said) == []


def test_config_list_has_our_section(installed: CleanEnvironment, home: Path) -> None:
    said = installed.run(home, "airflow", "config", "list", "--section", "mlops", "--defaults")
    assert said.code == 0, said.err
    assert "[mlops]" in said.out
    options = get_provider_info()["config"]["mlops"]["options"]
    assert set(re.findall(r"(?m)^#? ?(\w+) = ", said.out)) == set(options)
    assert complaints(said) == []


@pytest.mark.parametrize(
    ("option", "value"), [("docker_transfer", "auto"), ("store", "s3://somewhere/else")], ids=["default", "set"]
)
def test_config_gives_the_value_of_an_option(installed: CleanEnvironment, home: Path, option: str, value: str) -> None:
    said = installed.run(home, "airflow", "config", "get-value", "mlops", option, AIRFLOW__MLOPS__STORE=value)
    assert (said.code, said.out.split()[-1]) == (0, value), said.err
    assert complaints(said) == []


def test_dags_list_has_a_pipeline(installed: CleanEnvironment, home: Path) -> None:
    made = installed.run(home, "airflow-mlops", "init", "dags/churn")
    assert made.code == 0, made.err
    loaded = installed.run(home, "airflow", "dags", "reserialize")
    assert loaded.code == 0, loaded.err
    said = installed.run(home, "airflow", "dags", "list", "--output", "json")
    assert said.code == 0, said.err
    assert [dag["dag_id"] for dag in json.loads(said.out[said.out.index("[{") :])] == ["churn"]
    assert complaints(loaded) + complaints(said) == []


def test_our_own_command_is_there(installed: CleanEnvironment, home: Path) -> None:
    said = installed.run(home, "airflow-mlops", "--version")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"airflow-mlops {airflow_mlops.__version__}, Airflow 3.")
    made = installed.run(home, "airflow-mlops", "init", "valid")
    assert made.code == 0, made.err
    said = installed.run(home, "airflow-mlops", "validate", "valid/valid.yaml")
    assert (said.code, said.err) == (0, "")


@pytest.mark.skipif(AIRFLOW_V_3_2_PLUS, reason="since Airflow 3.2, providers may bring commands")
def test_airflow_31_has_no_mlops_command_and_says_so(installed: CleanEnvironment, home: Path) -> None:
    said = installed.run(home, "airflow", "mlops", "--help")
    assert said.code == 2
    assert "invalid choice: 'mlops'" in said.err


@NEEDS_PROVIDER_COMMANDS
class TestAirflowMlops:
    def test_its_help_fits_a_terminal_and_lists_every_command(self, installed: CleanEnvironment, home: Path) -> None:
        said = installed.run(home, "airflow", "mlops", "--help")
        assert said.code == 0, said.err
        shown = said.out[said.out.index("Usage: airflow mlops") :]
        assert max(map(len, shown.splitlines())) <= 80
        words = " ".join(shown.split())
        assert [name for name, line in HELP.items() if f" {name} {line}" not in words] == []
        assert complaints(said) == []

    def test_the_group_alone_shows_its_help_as_usage(self, installed: CleanEnvironment, home: Path) -> None:
        said = installed.run(home, "airflow", "mlops")
        assert said.code == 2
        assert "Usage: airflow mlops" in said.out
        assert "the following arguments are required: COMMAND" in said.err

    @pytest.mark.parametrize(
        "words",
        [
            ["run", "--help"],
            ["validate", "-h"],
            ["validate", "--", "--no-such-file"],
            ["graph", "--fast", "valid/valid.yaml"],
        ],
        ids=" ".join,
    )
    def test_a_command_says_and_returns_what_airflow_mlops_does(
        self, installed: CleanEnvironment, home: Path, words: list[str]
    ) -> None:
        there = installed.run(home, "airflow", "mlops", *words)
        here = installed.run(home, "airflow-mlops", *words)
        assert there.code == here.code
        assert there.out.endswith(here.out)
        assert there.err.endswith(here.err)

    def test_ctrl_c_ends_a_run_as_it_does_in_airflow_mlops(
        self, installed: CleanEnvironment, home: Path, tmp_path: Path
    ) -> None:
        pid, spec = tmp_path / "pid", tmp_path / "sleeps.yaml"
        spec.write_text(SLEEPS.replace("PID", str(pid)))
        process = subprocess.Popen(
            installed.command(["airflow", "mlops", "run", spec]),
            env=installed.settings(home, AIRFLOW_MLOPS_HOME=str(tmp_path / "runs")),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + SECONDS
            while not (pid.exists() and pid.read_text().strip()):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            assert psutil.Process(process.pid).cmdline()[2:5] == ["-m", "airflow_mlops", "run"]
            step = psutil.Process(int(pid.read_text()))
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        assert process.returncode == 130, output
        assert not step.is_running()
