# SPDX-License-Identifier: Apache-2.0
"""Approvals in a running Airflow: asked and answered over its REST API, and by a person at its pages in a real browser."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.browser import new_page
from tests.parts.standalone import Refused

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.parts.standalone import Standalone

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

AIRFLOW = tuple(map(int, importlib.metadata.version("apache-airflow-core").split(".")[:2]))

SPEC = """
apiVersion: mlops/v1
name: signed
params: {ask: true}
defaults: {runtime: process}
steps:
  - name: fit
    kind: train
    command: [sh, -c, 'printf weights > "$MLOPS_OUTPUT_MODEL"; echo "{\\"auc\\": 0.91}" > "$MLOPS_OUTPUT_METRICS"']
    outputs: {model: {type: model, file: m.bin}, metrics: metrics}
  - name: before
    kind: train
    command: [sh, -c, 'printf old > "$MLOPS_OUTPUT_MODEL"; echo "{\\"auc\\": 0.9}" > "$MLOPS_OUTPUT_METRICS"']
    outputs: {model: {type: model, file: m.bin}, metrics: metrics}
  - {name: used, kind: register, inputs: {model: before.model, metrics: before.metrics}, model: signed, alias: champion}
  - name: sign-off
    kind: approve
    needs: [used]
    inputs: {m: fit.metrics, champion: "models:signed@champion", challenger: "models:signed@challenger", model: fit.model}
    subject: "Use a model with AUC {{ inputs.m.metadata.auc }}?"
    timeout: 1h
    default: reject
  - {name: use, kind: container, needs: [sign-off], inputs: {model: fit.model}, command: [cat, "{{ inputs.model.path }}"]}
"""
ASSIGNED = """
apiVersion: mlops/v1
name: assigned
steps:
  - {name: sign-off, kind: approve, assignees: [grace]}
"""


@pytest.fixture(scope="module")
def airflow(standalone: Standalone) -> Standalone:
    """An Airflow with the pipelines of this module."""
    standalone.add("signed", SPEC)
    standalone.add("assigned", ASSIGNED)
    return standalone


def of(dag: str, run: str) -> str:
    """Where the question of a run's step is, and its answer."""
    return f"dags/{dag}/dagRuns/{run}/taskInstances/sign-off/-1/hitlDetails"


def asked(airflow: Standalone, dag: str = "signed", run: str | None = None) -> tuple[str, dict[str, Any]]:
    """A run that has come to its question, and that."""
    run = run or airflow.trigger(dag)

    def question() -> dict[str, Any] | None:
        if airflow.tasks(dag, run)["sign-off"] not in ("deferred", "awaiting_input"):
            return None
        if not is_let_go(airflow, run):
            return None
        return dict(airflow.get(of(dag, run)))

    return run, airflow.until("the question", question)


def is_let_go(airflow: Standalone, run: str) -> bool:
    """
    Whether Airflow's scheduler has dealt with the end of the worker's process that asked. An answer that comes before is lost: it fails the try, and
    the next one asks again.
    """
    told = airflow.log.read_text(errors="replace").splitlines()
    return any(
        "Received executor event with state success" in line and run in line and "sign-off" in line for line in told
    )


def test_a_question_shows_what_it_is_about_and_is_answered_over_rest(airflow: Standalone) -> None:
    run, question = asked(airflow)
    assert question["subject"] == "Use a model with AUC 0.91?"
    assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
    model = airflow.xcom("signed", run, "fit")["artifacts"]["model"]
    assert "| `auc` | 0.91 | 0.9 (+0.01) |" in question["body"]
    assert "- `champion`: model, 3 B, `models:signed/1`" in question["body"]
    assert "`challenger`: there is no `models:signed@challenger` yet." in question["body"]
    assert model["uri"] in question["body"] and model["digest"] in question["body"]
    answer = {"chosen_options": ["Approve"], "params_input": {"note": "seen"}}
    airflow.request("PATCH", of("signed", run), json=answer)
    assert airflow.wait("signed", run) == "success"
    parameters = airflow.xcom("signed", run, "sign-off")["parameters"]
    assert (parameters["approved"], parameters["by"], parameters["note"]) == (True, airflow.user, "seen")
    with pytest.raises(Refused):
        airflow.request("PATCH", of("signed", run), json=answer)
    assert "mlops/artifacts?" in airflow.links("signed", run, "sign-off")["Artifacts"]


def test_only_those_who_are_assigned_may_answer(airflow: Standalone) -> None:
    run, question = asked(airflow, "assigned")
    assert question["assigned_users"] == [{"id": "grace", "name": "grace"}]
    assert question["subject"] == "Approve assigned: sign-off?" and not question["body"]
    with pytest.raises(Refused) as refused:
        airflow.request("PATCH", of("assigned", run), json={"chosen_options": ["Approve"]})
    assert refused.value.status == 403
    mark(airflow, "assigned", run, "success")
    assert airflow.wait("assigned", run) == "success"


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_step_that_waits_may_be_marked(airflow: Standalone, state: str) -> None:
    run, _ = asked(airflow)
    mark(airflow, "signed", run, state)
    assert airflow.wait("signed", run) == state
    assert airflow.tasks("signed", run)["use"] == ("success" if state == "success" else "upstream_failed")


def mark(airflow: Standalone, dag: str, run: str, state: str) -> None:
    """As the button of Airflow's pages does."""
    airflow.request("PATCH", f"dags/{dag}/dagRuns/{run}/taskInstances/sign-off", json={"new_state": state})


def test_what_is_no_answer_to_the_question_approves_nothing(airflow: Standalone) -> None:
    """Airflow 3.3 refuses it; before that, the step does."""
    run, _ = asked(airflow)
    both = {"chosen_options": ["Approve", "Reject"]}
    try:
        airflow.request("PATCH", of("signed", run), json=both)
    except Refused as refused:
        assert refused.status == 400 and AIRFLOW >= (3, 3)
        airflow.request("PATCH", of("signed", run), json={"chosen_options": ["Reject"]})
    assert airflow.wait("signed", run) == "failed"
    assert airflow.tasks("signed", run)["use"] == "upstream_failed"


@pytest.fixture
def page(airflow: Standalone, browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page of a user who has logged in."""
    page = new_page(browser, airflow.url)
    page.goto("/")
    page.get_by_label("Username").fill(airflow.user)
    page.locator("input[type=password]").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Dags").first.wait_for()
    yield page
    page.screenshot(path=tmp_path / "last.png")
    page.context.close()


@pytest.mark.skipif(AIRFLOW < (3, 2), reason="the pages of Airflow before 3.2 are others")
def test_a_person_reads_the_question_and_answers_it_in_the_browser(airflow: Standalone, page: Page, shoot: Any) -> None:
    run, _ = asked(airflow)
    page.goto(f"/dags/signed/runs/{run}/tasks/sign-off/required_actions")
    page.get_by_text("Use a model with AUC 0.91?").first.wait_for()
    cell = page.get_by_role("row", name="auc").first
    assert "0.9 (+0.01)" in cell.inner_text()
    assert page.get_by_role("button", name="Approve").is_enabled()  # a note is not required
    shoot(page, "airflow-approval", document=True)
    link = page.get_by_role("link", name="fit").last
    assert "/mlops/artifacts?dag_id=signed" in str(link.evaluate("link => link.href"))
    page.locator("#element_note").fill("looked at it")
    page.get_by_role("button", name="Approve").click()
    assert airflow.wait("signed", run) == "success"
    parameters = airflow.xcom("signed", run, "sign-off")["parameters"]
    assert (parameters["by"], parameters["note"]) == (airflow.user, "looked at it")
    page.goto("/" + airflow.links("signed", run, "sign-off")["Artifacts"])
    page.get_by_text(f"approved by {airflow.user}").first.wait_for()
