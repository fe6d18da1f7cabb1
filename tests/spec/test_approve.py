# SPDX-License-Identifier: Apache-2.0
"""Approvals as a spec says them: what is wrong with one is told when the file is read, where it stands."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.spec.support import load, problem

HEAD = """\
apiVersion: mlops/v1
name: p
params: {ask: true, least: 0.9}
defaults: {image: img, timeout: 5m, retries: 2}
steps:
- {name: a, kind: train, outputs: {metrics: {type: metrics, keys: [auc]}, model: model, n: integer}}
"""


def approval(rest: str) -> str:
    return f"{HEAD}- {{name: ok, kind: approve, {rest}}}\n"


def test_an_approval_has_what_its_keys_say_and_what_its_condition_reads(tmp_path: Path) -> None:
    text = (
        "inputs: {m: a.metrics, model: a.model}, subject: 'Use {{ inputs.model.uri }} of {{ run.id }}?', timeout: 3d, default: reject, "
        "assignees: [ada, {id: '7', name: Grace}], on_reject: skip, when: 'params.ask == true && m.auc < params.least'"
    )
    spec = load(tmp_path, approval(text)).step("ok").spec
    assert (spec.timeout, spec.default, spec.on_reject) == (timedelta(days=3), "reject", "skip")
    assert [(one.id, one.name) for one in spec.assignees] == [("ada", None), ("7", "Grace")]
    assert spec.params == ["ask", "least"]


def test_how_long_programs_may_run_is_not_how_long_a_person_may_think(tmp_path: Path) -> None:
    spec = load(tmp_path, approval("description: Is it good?")).step("ok").spec
    assert (spec.timeout, spec.retries) == (None, 2)


@pytest.mark.parametrize(
    ("rest", "where", "said"),
    [
        (
            "default: approve",
            "default",
            "has a 'default', which is the answer after its 'timeout'; expected a 'timeout', too",
        ),
        ("timeout: 1h, default: yes", "yes", "'default' of step 'ok' is 'yes'; expected one of approve, reject"),
        ("on_reject: stop", "stop", "'on_reject' of step 'ok' is 'stop'; expected one of fail, skip"),
        (
            "when: 'params.ak == true'",
            "'params.ak",
            "params.ak is no parameter; expected one of params.ask, params.least; did you mean 'ask'?",
        ),
        (
            "when: 'params.ask'",
            "'params.ask'",
            "condition of step 'ok', column 1: is a value that may be anything; expected what is true or false",
        ),
        (
            "inputs: {model: a.model}, when: 'model.size > 1'",
            "'model.size",
            "'model' is a model, which no condition can read",
        ),
        (
            "inputs: {m: a.metrics}, when: 'm.acc > 1'",
            "'m.acc",
            "m.acc is not among the 'keys' of a.metrics; expected m.auc",
        ),
        ("subject: 'Use {{ params.modle }}?'", "'Use", "template of step 'ok': unknown parameter 'modle'"),
        ("subject: 'Use {{ inputs.m.path }}?', inputs: {m: a.model}", "'Use", "'inputs.m.path' is never staged"),
        ("assignees: ada", "ada", "'assignees' of step 'ok' is a string ('ada'); expected a list"),
        ("assignees: [{id: x, nam: ada}]", "nam", "unknown key 'nam'"),
        ("outputs: {x: model}", "outputs", "key 'outputs' is not for kind 'approve'"),
        ("require: ['true']", "require", "key 'require' is not for kind 'approve'"),
        ("command: [x]", "command", "key 'command' is not for kind 'approve'"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(tmp_path: Path, rest: str, where: str, said: str) -> None:
    found = problem(tmp_path, approval(rest))
    column = approval(rest).splitlines()[-1].rindex(where) + 1
    assert found.startswith(f"7:{column}: ") and said in found, found


@pytest.mark.parametrize("key", ["subject: x", "assignees: [x]", "default: approve", "on_reject: skip", "when: 'true'"])
def test_only_an_approval_has_its_keys(tmp_path: Path, key: str) -> None:
    said = problem(tmp_path, f"{HEAD}- {{name: c, kind: container, {key}}}\n")
    assert f"key '{key.partition(':')[0]}' is not for kind 'container'" in said
