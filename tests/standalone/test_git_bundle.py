# SPDX-License-Identifier: Apache-2.0
"""A pipeline in a Git repository: a run keeps to the commit that it began with, spec and step code alike."""

from __future__ import annotations

import pytest

from tests.parts.requirement import unavailable
from tests.parts.standalone import Standalone, has_git

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

SPEC = """
apiVersion: mlops/v1
name: pinned
source: ./src
defaults: {{runtime: process}}
steps:
  - {{name: wait, kind: container, command: [sh, -c, 'until test -e {go_on}; do sleep 0.2; done']}}
  - {{name: say, kind: container, command: [sh, say.sh, "{word} of the spec"], needs: [wait]}}
"""


def code(word: str) -> dict[str, str]:
    return {"src/say.sh": f'echo "$1, {word} of the code"\n'}


def test_a_run_keeps_to_the_commit_that_it_began_with(standalone: Standalone) -> None:
    if not has_git():
        unavailable(
            "airflow", "needs git and Airflow's provider for it; run: uv pip install apache-airflow-providers-git"
        )
    go_on = standalone.home / "pinned-go-on"
    first = standalone.commit("pinned", SPEC.format(go_on=go_on, word="one"), code("one"))
    standalone.unpause("pinned")
    run = standalone.trigger("pinned")
    standalone.until("its first step", lambda: standalone.tasks("pinned", run)["wait"] == "running")

    second = standalone.commit("pinned", SPEC.format(go_on=go_on, word="two"), code("two"))
    standalone.until("the second version", lambda: standalone.versions("pinned") == [1, 2])
    go_on.touch()
    assert standalone.wait("pinned", run) == "success"
    assert "one of the spec, one of the code" in said(standalone, run)

    later = standalone.trigger("pinned")
    assert standalone.wait("pinned", later) == "success"
    assert "two of the spec, two of the code" in said(standalone, later)
    versions = standalone.get("dags/pinned/dagVersions")["dag_versions"]
    assert {one["version_number"]: one["bundle_version"] for one in versions} == {1: first, 2: second}


def said(standalone: Standalone, run: str) -> list[str]:
    return [line["event"] for line in standalone.task_log("pinned", run, "say")]
