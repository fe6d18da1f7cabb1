# SPDX-License-Identifier: Apache-2.0
"""What a run of one's own asks is answered on its terminal or in advance, and a run that nobody could answer does not begin."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.support import PATIENCE, Said, Terminal, at_terminal, read_rest, read_until

pytest.importorskip("airflow")
pytestmark = pytest.mark.airflow

SPEC = """\
apiVersion: mlops/v1
name: signed
params: {ask: true, least: 0.9}
defaults: {runtime: process}
steps:
  - name: fit
    kind: train
    command: [sh, -c, 'printf weights > "$MLOPS_OUTPUT_MODEL"; echo "{\\"auc\\": 0.91}" > "$MLOPS_OUTPUT_METRICS"']
    outputs: {model: {type: model, file: m.bin}, metrics: metrics}
  - name: sign-off
    kind: approve
    inputs: {m: fit.metrics, model: fit.model}
    params: [least]
    assignees: [nobody-here]
    subject: "Use a model of {{ inputs.m.metadata.auc }}?"
    when: "params.ask == true"
  - {name: use, kind: container, needs: [sign-off], inputs: {model: fit.model}, command: [cat, "{{ inputs.model.path }}"]}
"""


@pytest.fixture
def user(tmp_path: Path) -> Terminal:
    (tmp_path / "signed.yaml").write_text(SPEC)
    return Terminal(tmp_path)


def plain(shown: bytes) -> str:
    """What a terminal shows, without what it obeys."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


@pytest.mark.slow
def test_a_question_is_answered_on_the_terminal(user: Terminal) -> None:
    with at_terminal(user, "run", "signed.yaml") as (process, controller):
        shown = plain(read_until(controller, b"sign-off> "))
        asked = shown.partition("sign-off asks: ")[2]
        assert asked.startswith("Use a model of 0.91?")
        assert all(text in asked for text in ("auc", "least", "0.9", "m.bin", "sha256:"))
        os.write(controller, b"perhaps\n")
        assert "expected approve or reject" in plain(read_until(controller, b"reject\r\nsign-off> "))
        os.write(controller, b"approve as good as the last one\n")
        ended = plain(read_rest(controller))
        assert process.wait(PATIENCE) == 0, ended
    assert re.search(r"sign-off +success .* approved by \S+ at 20.*: as good as the last\s+one", ended, re.DOTALL), (
        ended
    )


@pytest.mark.slow
def test_ctrl_c_ends_a_run_that_waits_for_an_answer(user: Terminal) -> None:
    with at_terminal(user, "run", "signed.yaml") as (process, controller):
        read_until(controller, b"sign-off> ")
        os.write(controller, b"\x03")
        ended = plain(read_rest(controller))
        assert process.wait(PATIENCE) == 130, ended
    assert "signed was stopped" in ended and "Traceback" not in ended


@pytest.mark.slow
def test_an_answer_is_given_in_advance(user: Terminal) -> None:
    said = user.run("run", "signed.yaml", "--json", "--approve", "all", "--reject", "sign-off")
    assert said.code == 1, said.err
    steps = json.loads(said.out)["steps"]
    assert {name: step["state"] for name, step in steps.items()} == {
        "fit": "success",
        "sign-off": "failed",
        "use": "not run",
    }
    parameters = steps["sign-off"]["parameters"]
    assert (parameters["approved"], parameters["note"]) == (False, "given in advance on the command line")


@pytest.mark.slow
def test_a_question_that_nobody_can_answer_stops_the_run_where_it_could_not_be_foreseen(user: Terminal) -> None:
    (user.home / "signed.yaml").write_text(SPEC.replace("params.ask == true", "m.auc > params.least"))
    said = user.run("run", "signed.yaml")
    assert said.code == 2
    assert "step 'sign-off' asks: Use a model of 0.91? Nobody is here to answer; the run was stopped" in said.err


def refused(user: Terminal, *words: str) -> Said:
    """A run that does not begin."""
    said = user.run("run", "signed.yaml", *words)
    assert not (user.home / "mlops" / "runs").exists() and said.code == 2, said
    return said


def test_a_run_that_nobody_could_answer_does_not_begin(user: Terminal) -> None:
    for words in ((), ("--json",)):
        assert (
            "step 'sign-off' asks for an approval, and nobody is here to give it; expected a terminal, or --approve sign-off or --reject sign-off"
        ) in refused(user, *words).err


def test_an_answer_to_what_is_not_asked_is_refused(user: Terminal) -> None:
    said = refused(user, "--approve", "sign-of").err
    assert (
        "--approve sign-of: no step of that name asks for an approval; expected one of sign-off, all; did you mean 'sign-off'?"
        in said
    )
    assert (
        "--approve all and --reject all: expected one of the two"
        in refused(user, "--approve", "all", "--reject", "all").err
    )


@pytest.mark.slow
def test_a_step_that_will_not_ask_needs_no_answer(user: Terminal) -> None:
    said = user.run("run", "signed.yaml", "-p", "ask=false")
    assert said.code == 0, said.err
    assert "not asked, since this does not hold" in said.out
