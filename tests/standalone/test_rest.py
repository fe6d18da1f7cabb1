# SPDX-License-Identifier: Apache-2.0
"""A pipeline in a running Airflow, as its REST API shows it: run, refused, read, cleared, failed, broken and mended."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.parts.images import ROOT
from tests.parts.standalone import Refused, Standalone

RUN = {"min_length": 5, "top": 2}

CHAIN = """
apiVersion: mlops/v1
name: chain
defaults: {runtime: process}
steps:
  - {name: draw, kind: container, command: [sh, -c, 'date +%s%N > "$MLOPS_OUTPUT_NUMBERS"'], outputs: {numbers: dataset}}
  - {name: copy, kind: container, command: [sh, -c, 'cat "$MLOPS_INPUT_NUMBERS" > "$MLOPS_OUTPUT_SAME"'],
     inputs: {numbers: draw.numbers}, outputs: {same: dataset}}
"""
FAILING = """
apiVersion: mlops/v1
name: failing
defaults: {runtime: process}
steps:
  - {name: fit, kind: container, command: [sh, -c, "echo no rows in train.csv; exit 3"]}
  - {name: forget, kind: container, command: [sh, -c, "echo trained"], outputs: {model: model}}
"""
PLAIN = """
apiVersion: mlops/v1
name: {name}
defaults: {{runtime: process}}
steps:
  - name: only
    kind: container
    command: [sh, -c, "echo {name}"]
"""


@pytest.fixture(scope="module")
def word_count(standalone: Standalone) -> str:
    """Run of the example of that name, which is as it is in ``dags/``."""
    folder = ROOT / "dags" / "word-count"
    code = {str(file.relative_to(folder)): file.read_text() for file in folder.glob("src/*")}
    standalone.add("word-count", (folder / "pipeline.yaml").read_text(), code)
    run = standalone.trigger("word-count", **RUN)
    assert standalone.wait("word-count", run) == "success"
    return run


def local(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def documents(standalone: Standalone, dag: str, run: str, task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    What a task has committed, and what it was started with: the reference in its XCom leads to the manifest, and that to the seal, each by its
    digest.
    """
    reference = standalone.xcom(dag, run, task)
    manifest = read(local(reference["manifest"]), reference["sha256"])
    seal = local(reference["manifest"]).parent / manifest["attempt"] / "step.json"
    return manifest, read(seal, manifest["seal"])


def read(file: Path, sha256: str) -> dict[str, Any]:
    data = file.read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256
    return dict(json.loads(data))


def events(log: list[dict[str, Any]]) -> list[str]:
    return [str(line["event"]) for line in log]


def reason(line: dict[str, Any]) -> list[str]:
    """What an exception in a log says, and each of those below it."""
    return [error["exc_value"] for error in line["error_detail"]]


def test_an_example_dropped_into_dags_runs_with_the_params_of_a_trigger(
    standalone: Standalone, word_count: str
) -> None:
    states = standalone.tasks("word-count", word_count)
    assert states == dict.fromkeys(("words", "count", "measure", "top"), "success")
    report = standalone.xcom("word-count", word_count, "top")["artifacts"]["report"]
    lines = local(report["uri"]).read_text().splitlines()
    assert len(lines) == 2 + RUN["top"]
    assert all(len(line.split("|")[2].strip()) >= RUN["min_length"] for line in lines[2:])


def test_xcom_leads_to_a_manifest_and_that_to_what_was_run_on_what(standalone: Standalone, word_count: str) -> None:
    words, _ = documents(standalone, "word-count", word_count, "words")
    assert words["parameters"]["total"] > 0
    _, sealed = documents(standalone, "word-count", word_count, "count")
    assert sealed["step"]["inputs"]["words"]["digest"] == words["artifacts"]["words"]["digest"]
    measure = standalone.xcom("word-count", word_count, "measure")
    assert 0 < measure["metrics"]["metrics"]["richness"] <= 1


@pytest.mark.parametrize(
    ("params", "named"),
    [({"top": 1000}, "top: 1000"), ({"min_length": "three"}, "min_length: 'three'"), ({"top": 2.5}, "top: 2.5")],
)
def test_params_outside_their_schema_are_refused(
    standalone: Standalone, word_count: str, params: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused, match=named) as refused:
        standalone.trigger("word-count", **params)
    assert refused.value.status in (400, 422)
    assert len(standalone.get("dags/word-count/dagRuns")["dag_runs"]) == 1


def test_a_log_shows_the_steps_own_lines_in_their_order(standalone: Standalone, word_count: str) -> None:
    log = events(standalone.task_log("word-count", word_count, "top"))
    first = log.index("| times | word |")
    assert log[first + 1] == "|---|---|"
    assert log[first - 1].endswith(" of top runs sh top.sh")
    assert any(line.startswith("Committed report: report, ") for line in log[first:])


def test_the_rendered_fields_are_what_ran_and_nothing_empty(standalone: Standalone, word_count: str) -> None:
    fields = standalone.task("word-count", word_count, "measure")["rendered_fields"]
    shown = {name for name, value in fields.items() if value is not None}
    assert shown == {"command", "inputs"}
    total = standalone.xcom("word-count", word_count, "words")["parameters"]["total"]
    assert fields["command"][:5] == ["awk", "-f", "measure.awk", "-v", f"total={total}"]
    counts = standalone.xcom("word-count", word_count, "count")["artifacts"]["counts"]
    assert fields["inputs"] == {"counts": counts["uri"], "total": total}
    words = standalone.task("word-count", word_count, "words")["rendered_fields"]
    assert words["parameters"] == {"min_length": RUN["min_length"]}


def numbers(standalone: Standalone, run: str) -> dict[str, Any]:
    return dict(documents(standalone, "chain", run, "draw")[0]["artifacts"]["numbers"])


def test_a_cleared_task_runs_again_and_downstream_sees_the_new_artifact(standalone: Standalone) -> None:
    standalone.add("chain", CHAIN)
    run = standalone.trigger("chain")
    assert standalone.wait("chain", run) == "success"
    first = numbers(standalone, run)
    standalone.clear("chain", run, "draw")
    assert standalone.wait("chain", run) == "success"
    second = numbers(standalone, run)
    assert second["digest"] != first["digest"]
    copy, sealed = documents(standalone, "chain", run, "copy")
    assert sealed["step"]["inputs"]["numbers"]["digest"] == second["digest"]
    assert copy["artifacts"]["same"]["digest"] == second["digest"]
    assert local(first["uri"]).exists()  # what was committed stays


@pytest.mark.parametrize(
    ("task", "own", "why"),
    [
        ("fit", "no rows in train.csv", "user-code: step 'fit': its program ended with exit code 3"),
        ("forget", "trained", "outputs: step 'forget': output 'model' was not written"),
    ],
)
def test_a_failed_step_shows_its_reason_in_the_last_lines_of_its_log(
    standalone: Standalone, failed_run: str, task: str, own: str, why: str
) -> None:
    log = [line for line in standalone.task_log("failing", failed_run, task) if "::" not in line["event"]]
    assert log[-2]["event"] == own
    ((said),) = reason(log[-1])  # one exception alone, no chain of where it came from below it
    assert said.startswith(why)
    frames = [frame["filename"] for frame in log[-1]["error_detail"][0]["frames"]]
    assert sum("airflow_mlops" in file for file in frames) == 1


@pytest.fixture(scope="module")
def failed_run(standalone: Standalone) -> str:
    standalone.add("failing", FAILING)
    run = standalone.trigger("failing")
    assert standalone.wait("failing", run) == "failed"
    return run


def test_a_broken_spec_is_an_import_error_with_its_place_takes_no_other_dag_down_and_heals(
    standalone: Standalone,
) -> None:
    spec = standalone.add("mended", PLAIN.format(name="mended"))
    standalone.add("bystander", PLAIN.format(name="bystander"))
    good = spec.read_text()
    spec.write_text(good.replace("command:", "comand:"))
    standalone.parse("mended")
    (error,) = standalone.import_errors()
    assert error["filename"].endswith("mended/pipeline_dag.py")
    assert f"{spec}:8:5: " in error["stack_trace"]
    assert "did you mean 'command'" in error["stack_trace"]
    assert error["stack_trace"].rstrip().splitlines()[-1].startswith(f"{spec}:")  # where a reader looks first
    standalone.parse("bystander")
    assert standalone.knows("bystander")
    assert standalone.wait("bystander", standalone.trigger("bystander")) == "success"
    spec.write_text(good)
    standalone.parse("mended")
    assert standalone.import_errors() == []
    standalone.until("healed DAG", lambda: standalone.knows("mended"))
    assert standalone.wait("mended", standalone.trigger("mended")) == "success"


def test_an_unchanged_spec_makes_no_new_dag_version_and_a_changed_one_exactly_one(standalone: Standalone) -> None:
    spec = standalone.add("versioned", PLAIN.format(name="versioned"))
    assert standalone.wait("versioned", standalone.trigger("versioned")) == "success"
    for _ in range(3):
        standalone.parse("versioned")
    assert standalone.versions("versioned") == [1]
    spec.write_text(spec.read_text().replace("echo versioned", "echo changed"))
    for _ in range(3):
        standalone.parse("versioned")
    assert standalone.versions("versioned") == [1, 2]
    run = standalone.trigger("versioned")
    assert standalone.wait("versioned", run) == "success"
    assert "changed" in events(standalone.task_log("versioned", run, "only"))
    standalone.parse("versioned")
    assert standalone.versions("versioned") == [1, 2]
