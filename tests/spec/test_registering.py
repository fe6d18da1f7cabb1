# SPDX-License-Identifier: Apache-2.0
"""Registered models as a spec names them: as inputs of any step, and as what a step registers."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.spec.pictures import to_mermaid, to_text
from tests.spec.support import load, problem

HEAD = """\
apiVersion: mlops/v1
name: p
defaults: {image: img}
steps:
- {name: fit, kind: train, outputs: {model: model, metrics: metrics, data: dataset}}
"""


def spec(*steps: str) -> str:
    return HEAD + "".join(f"- {{{step}}}\n" for step in steps)


def test_a_registered_model_is_an_input_like_any_other(tmp_path: Path) -> None:
    text = spec(
        "name: use, kind: predict, inputs: {m: 'models:churn@champion'}, command: [cat, '{{ inputs.m.path }}', '{{ inputs.m.digest }}']",
        "name: look, kind: container, inputs: {m: {from: 'models:churn/3', stage: none, optional: true}}, command: ['{{ inputs.m.uri }}']",
    )
    pipeline = load(tmp_path, text)
    item = pipeline.step("look").inputs["m"]
    assert (item.model, item.step, item.type, item.stage, item.optional) == (
        "models:churn/3",
        (),
        "model",
        "none",
        True,
    )
    assert "reads models:churn@champion" in to_text(pipeline)
    assert "models" not in to_mermaid(pipeline)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "name: use, kind: predict, inputs: {m: 'models:churn'}",
            "'models:churn' does not say which version; expected models:NAME@ALIAS or models:NAME/VERSION",
        ),
        ("name: use, kind: predict, inputs: {m: 'models:/churn/1'}", "no slash follows 'models:' here"),
        ("name: use, kind: predict, inputs: {m: \"models:x' or name!='@a\"}", "is no name of a model"),
        ("name: use, kind: predict, inputs: {m: 'models:churn@v3'}", "the alias 'v3' is reserved"),
        (
            "name: use, kind: container, inputs: {m: {from: 'models:churn@a', type: dataset}}",
            "input 'm' asks for type dataset, but 'models:churn@a' is a model",
        ),
        ("name: use, kind: predict, inputs: {m: 'models:churn@a', n: fit.model}", "has 2 model inputs (m, n)"),
        (
            "name: r, kind: register, inputs: {m: fit.model}",
            "step 'r' of kind register has no 'model'; expected the name to register under",
        ),
        ("name: r, kind: register, model: churn", "step 'r' of kind register has no model input; expected exactly one"),
        (
            "name: r, kind: register, model: churn, inputs: {m: fit.model, d: fit.data}",
            "input 'd' is a dataset, which is not registered; expected the model and its metrics",
        ),
        (
            "name: r, kind: register, model: churn, inputs: {m: fit.model, a: fit.metrics, b: fit.metrics}",
            "has 2 inputs of metrics; expected one",
        ),
        (
            "name: r, kind: register, model: churn, inputs: {m: {from: fit.model, optional: true}}",
            "input 'm' is optional, and a step of kind register does nothing without",
        ),
        (
            "name: g, kind: gate, inputs: {int: fit.metrics}, require: ['int.auc > 1']",
            "input 'int' has a name that CEL keeps for itself; expected another name",
        ),
        ("name: r, kind: register, model: 'a b', inputs: {m: fit.model}", "'a b' is no name of a model"),
        (
            "name: r, kind: register, model: churn, alias: latest, inputs: {m: fit.model}",
            "the alias 'latest' is reserved",
        ),
        (
            "name: r, kind: register, model: churn, inputs: {m: fit.model}, outputs: {m: model}",
            "key 'outputs' is not for kind 'register'",
        ),
        ("name: c, kind: container, model: churn", "key 'model' is not for kind 'container'"),
        (
            "name: g, kind: gate, inputs: {c: 'models:churn@champion'}, require: ['c.auc > 1']",
            "gate 'g' reads models:churn@champion, which there is not before the first model has it; expected 'no_champion: open', or 'no_champion: close'",
        ),
        (
            "name: g, kind: gate, inputs: {c: 'models:churn/1'}, no_champion: open, require: ['c.auc > 1']",
            "gate 'g' reads no model by an alias",
        ),
        (
            "name: g, kind: gate, inputs: {c: 'models:churn@champion'}, no_champion: opn, require: ['c.auc > 1']",
            "'no_champion' of step 'g' is 'opn'; expected one of open, close; did you mean 'open'?",
        ),
        (
            "name: g, kind: gate, inputs: {c: 'models:churn@champion'}, no_champion: open, require: ['c > 1']",
            "'c' is all metrics of models:churn@champion; expected one of them",
        ),
        (
            "name: g, kind: gate, inputs: {c: fit.model}, require: ['c.auc > 1']",
            "input 'c' is a model, which no condition can read; expected metrics, a parameter or a registered model",
        ),
    ],
)
def test_what_is_wrong_with_one_is_told_when_the_spec_is_read(tmp_path: Path, step: str, said: str) -> None:
    assert said in problem(tmp_path, spec(step))


def test_what_is_registered_can_be_read_by_later_steps(tmp_path: Path) -> None:
    text = spec(
        "name: r, kind: register, model: churn, alias: challenger, inputs: {m: fit.model, n: fit.metrics}",
        "name: use, kind: predict, inputs: {m: r.model, v: r.version, w: r.reference, c: r.created}",
    )
    types = {name: item.type for name, item in load(tmp_path, text).step("use").inputs.items()}
    assert types == {"m": "model", "v": "integer", "w": "string", "c": "boolean"}
