# SPDX-License-Identifier: Apache-2.0
"""
The way of a person through Airflow's pages, in a real browser: log in, look at the graph and its docs, fill the form, run, read what came of it.

The words and places are those of the pages of Airflow 3.2 and 3.3; older ones have others.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.browser import new_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from tests.parts.standalone import Standalone

FROST = Path(__file__).with_name("frost")
AIRFLOW = tuple(map(int, importlib.metadata.version("apache-airflow-core").split(".")[:2]))

pytestmark = pytest.mark.skipif(AIRFLOW < (3, 2), reason="the pages of Airflow before 3.2 are others")

LATE = """
apiVersion: mlops/v1
name: late
defaults: {runtime: process}
steps:
  - {name: fit, kind: container, command: [sh, -c, "echo reading train.csv; echo no rows in train.csv >&2; exit 3"]}
"""

Shoot = Callable[..., Path]


def see(what: Locator) -> None:
    """Wait until it is there to be seen."""
    what.first.wait_for(state="visible")


@pytest.fixture(scope="module")
def airflow(standalone: Standalone) -> Standalone:
    """An Airflow with the pipeline of ``frost/``."""
    code = {str(file.relative_to(FROST)): file.read_text() for file in FROST.glob("src/*.py")}
    standalone.add("frost", (FROST / "pipeline.yaml").read_text(), code)
    return standalone


@pytest.fixture(scope="module")
def signed_in(airflow: Standalone, browser: Browser) -> Any:
    """What the browser keeps of a user who has logged in by Airflow's form."""
    page = new_page(browser, airflow.url)
    page.goto("/")
    page.get_by_label("Username").fill(airflow.user)
    page.locator("input[type=password]").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    see(page.get_by_role("link", name="Dags"))
    state = page.context.storage_state()
    page.context.close()
    return state


@pytest.fixture
def page(airflow: Standalone, browser: Browser, signed_in: Any, tmp_path: Path) -> Iterator[Page]:
    """A page of that user; what it showed last lies in the test's folder."""
    page = new_page(browser, airflow.url, storage_state=signed_in)
    yield page
    page.screenshot(path=tmp_path / "last.png")
    page.context.close()


@pytest.fixture(scope="module")
def ran(airflow: Standalone, browser: Browser, signed_in: Any) -> str:
    """A run that was started by the form, with other values than the form offers."""
    page = new_page(browser, airflow.url, storage_state=signed_in)
    form = open_form(page)
    choose(page, form, "hill")
    form.get_by_label("Days").fill("90")
    form.get_by_role("button", name="Judgement").click()
    form.get_by_label("Share held out").fill("0.1")
    form.get_by_label("Share held out").press("Tab")
    form.get_by_role("button", name="Trigger", exact=True).click()
    form.wait_for(state="hidden")
    page.context.close()
    (run,) = airflow.get("dags/frost/dagRuns")["dag_runs"]
    assert airflow.wait("frost", run["dag_run_id"]) == "success"
    return str(run["dag_run_id"])


@pytest.fixture(scope="module")
def failed(airflow: Standalone) -> str:
    airflow.add("late", LATE)
    run = airflow.trigger("late")
    assert airflow.wait("late", run) == "failed"
    return run


def open_form(page: Page) -> Locator:
    page.goto("/dags/frost")
    page.get_by_role("button", name="Trigger Dag").click()
    form = page.get_by_role("dialog")
    see(form.get_by_label("Days"))
    return form


def choose(page: Page, form: Locator, station: str) -> list[str]:
    """Take one of the stations that the form offers; all of them."""
    form.get_by_role("combobox", name="Station").click()
    offered = page.get_by_role("option")
    see(offered)
    texts = offered.all_inner_texts()
    offered.filter(has_text=station).click()
    see(form.locator("#element_station").get_by_text(station))
    return texts


def open_graph(page: Page) -> Locator:
    page.get_by_role("button", name="Show Graph").click()
    page.get_by_role("button", name="Expand all task groups").click()
    graph = page.locator(".react-flow")
    see(graph.get_by_text("trend", exact=True))
    return graph


def test_the_graph_shows_the_steps_their_group_and_their_docs(page: Page, shoot: Shoot) -> None:
    page.goto("/dags/frost")
    graph = open_graph(page)
    for name in ("sample", "mean", "trend", "compare", "report"):
        see(graph.get_by_text(name, exact=True))
    graph.get_by_text("candidates", exact=True).hover()
    see(page.get_by_text("Two ways to guess, fitted on the same days."))
    shoot(page, "graph-group")
    page.get_by_role("button", name="Dag Docs").click()
    docs = page.get_by_role("dialog")
    see(docs.get_by_text("Will there be frost tomorrow night?"))
    see(docs.locator("li", has_text="fitted on all days but the last ones"))
    see(docs.get_by_text("pipeline.yaml"))
    shoot(page, "docs")
    page.keyboard.press("Escape")
    docs.wait_for(state="hidden")
    graph.get_by_text("sample", exact=True).click()
    page.wait_for_url("**/tasks/sample**")
    page.get_by_role("button", name="Documentation").click()
    see(page.get_by_role("dialog").get_by_text("Temperatures of a winter"))
    shoot(page, "step-docs")


def test_the_form_shows_types_ranges_choices_and_descriptions(page: Page, shoot: Shoot) -> None:
    form = open_form(page)
    see(form.get_by_text("Where the temperatures are taken"))
    assert choose(page, form, "summit") == ["valley", "hill", "summit"]
    days = form.get_by_label("Days")
    assert days.input_value() == "120"
    see(form.get_by_text("How many days are looked at (30 to 365)"))
    shoot(page, "airflow-form", document=True)
    days.fill("9999")
    days.press("Tab")
    assert days.input_value() == "365"  # which is why the range must be there to be read
    form.get_by_role("button", name="Judgement").click()
    see(form.get_by_text("Part of the days that the candidates are judged by (0.05 to 0.5)"))
    assert form.get_by_label("Share held out").input_value() == "0.2"
    see(form.get_by_text("Whether the report says what to do"))
    assert form.get_by_role("checkbox", name="Warn").is_checked()
    shoot(page, "form-section")


def test_a_run_that_was_started_by_the_form_succeeds(page: Page, shoot: Shoot, ran: str) -> None:
    page.goto(f"/dags/frost/runs/{ran}")
    graph = open_graph(page)
    graph.get_by_text("success", exact=True).nth(5).wait_for()  # five steps and their group
    see(page.get_by_test_id("header-card").get_by_text("Success"))
    settle(page)
    shoot(page, "airflow-run", document=True)


def test_a_step_shows_the_command_that_ran_with_what_was_filled_in(page: Page, shoot: Shoot, ran: str) -> None:
    page.goto(f"/dags/frost/runs/{ran}/tasks/sample")
    see(page.get_by_text("90 days of the hill station, 9 of them held out"))
    shoot(page, "log")
    page.get_by_role("link", name="Rendered Templates").click()
    command = page.locator("tr", has_text="command")
    see(command.get_by_text('"--days"'))
    see(command.get_by_text('"hill"'))
    see(command.get_by_text('"90"'))
    shoot(page, "airflow-step", document=True)
    assert not page.locator("tr", has_text="env").count()  # nothing is shown that is empty


def test_a_step_shows_what_it_handed_on(page: Page, shoot: Shoot, ran: str) -> None:
    page.goto(f"/dags/frost/runs/{ran}/tasks/report/xcom")
    see(page.locator(".view-lines"))  # what is not there yet would not be expanded
    page.get_by_role("button", name="Expand all extra JSON").click()
    for part in ('"manifest"', '"sha256"', '"artifacts"'):
        see(page.locator(".view-lines").get_by_text(part))
    settle(page)
    shoot(page, "handed-on")


def test_a_step_has_a_link_to_its_artifacts(page: Page, shoot: Shoot, ran: str) -> None:
    page.goto(f"/dags/frost/runs/{ran}/tasks/report/details")
    page.get_by_role("link", name="Artifacts", exact=True).first.click()
    see(page.get_by_role("heading", name="report"))
    see(page.get_by_text("sha256:").first)
    shoot(page, "airflow-artifacts", document=True)
    page.get_by_role("link", name="report", exact=True).first.click()  # and back
    page.wait_for_url("**/dags/frost/runs/**/tasks/report**")


def test_a_failed_step_shows_its_reason_where_its_log_opens(page: Page, shoot: Shoot, failed: str) -> None:
    page.goto(f"/dags/late/runs/{failed}/tasks/fit")
    why = page.get_by_text("user-code: step 'fit': its program ended with exit code 3")
    see(why)
    settle(page)
    assert page.get_by_text("ProgramFailed").count() == 0  # no second exception below the first
    box = why.first.bounding_box()
    assert box is not None and 0 < box["y"] < 800  # to be read without scrolling
    shoot(page, "failure")


def settle(page: Page) -> None:
    """Let what moves come to rest; nothing on the page says when it has."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(700)
