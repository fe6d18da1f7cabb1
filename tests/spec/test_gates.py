# SPDX-License-Identifier: Apache-2.0
"""Gates and picks as a spec says them: what is wrong with one is told when the file is read, where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec.support import load, problem, problems

HEAD = """\
apiVersion: mlops/v1
name: p
params: {least: 0.9, words: [a]}
defaults: {image: img}
steps:
- {name: a, kind: evaluate, outputs: {metrics: {type: metrics, keys: [accuracy, auc]}, free: metrics, n: integer, xs: list, data: dataset}}
"""


def gate(rest: str) -> str:
    return f"{HEAD}- {{name: g, kind: gate, {rest}}}\n"


class TestGate:
    def test_conditions_read_metrics_parameters_and_lists(self, tmp_path: Path) -> None:
        text = "inputs: {m: a.metrics, f: a.free, n: a.n, xs: a.xs}, require: ['m.auc >= params.least', 'f.any > 1', 'n > 3', 'xs[0] == 1']"
        step = load(tmp_path, gate(text)).step("g")
        assert step.spec.params == ["least"]
        assert {name: item.output for name, item in step.inputs.items()} == {
            "m": "metrics",
            "f": "free",
            "n": "n",
            "xs": "xs",
        }
        assert step.spec.on_fail == "fail"

    @pytest.mark.parametrize(
        ("rest", "where", "said"),
        [
            (
                "inputs: {m: a.metrics}, require: ['m.acuracy > 0.9']",
                "'m.acuracy > 0.9'",
                "m.acuracy is not among the 'keys' of a.metrics; expected one of m.accuracy, m.auc; did you mean 'accuracy'?",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m.auc >']",
                "'m.auc >'",
                "condition of step 'g', column 8: Syntax error: mismatched input the end",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m.auc > 1 && k.auc > 1']",
                "'m.auc > 1 && k.auc > 1'",
                "condition of step 'g', column 15: undeclared reference to 'k.auc'; expected a condition over one of m, params",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m.auc + 1.0']",
                "'m.auc + 1.0'",
                "column 1: is of type double; expected what is true or false",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m > 0.9']",
                "'m > 0.9'",
                "'m' is all metrics of 'a'; expected one of them, such as m.accuracy",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m.auc.x > 0.9']",
                "'m.auc.x > 0.9'",
                "m.auc.x is a part of a number; expected m.auc",
            ),
            ("inputs: {n: a.n}, require: ['n.x > 0.9']", "'n.x > 0.9'", "n.x is a part of an integer; expected n"),
            (
                "inputs: {m: a.metrics}, require: ['m.auc > params.leest']",
                "'m.auc > params.leest'",
                "params.leest is no parameter; expected one of params.least, params.words; did you mean 'least'?",
            ),
            (
                "inputs: {m: a.metrics}, require: ['size(params) > 1']",
                "'size(params) > 1'",
                "params is no parameter; expected one of params.least, params.words",
            ),
            (
                "inputs: {d: a.data}, require: ['true']",
                "a.data",
                "input 'd' is a dataset, which no condition can read; expected metrics, a parameter or a registered model",
            ),
            (
                "inputs: {params: a.metrics}, require: ['params.least > 1']",
                "a.metrics",
                "input 'params' has the name of the pipeline's parameters; expected another name",
            ),
            (
                "inputs: {m: a.metrics}",
                "{name",
                "step 'g' of kind gate requires nothing; expected 'require: [\"m.accuracy >= 0.93\"]'",
            ),
            ("inputs: {m: a.metrics}, require: [], on_fail: fail", "require", "requires nothing"),
            (
                "inputs: {m: a.metrics}, require: ['m.auc > 1'], on_fail: skipp",
                "skipp",
                "'on_fail' of step 'g' is 'skipp'; expected one of fail, skip; did you mean 'skip'?",
            ),
            (
                "inputs: {m: a.metrics}, require: 'm.auc > 1'",
                "'m.auc > 1'",
                "'require' of step 'g' is a string ('m.auc > 1'); expected a list",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m.auc > 1'], command: [x]",
                "command",
                "key 'command' is not for kind 'gate'",
            ),
            (
                "inputs: {m: a.metrics}, require: ['m.auc > 1'], outputs: {x: model}",
                "outputs",
                "key 'outputs' is not for kind 'gate'",
            ),
        ],
    )
    def test_what_could_never_open_is_told(self, tmp_path: Path, rest: str, where: str, said: str) -> None:
        found = problem(tmp_path, gate(rest))
        column = gate(rest).splitlines()[-1].index(where) + 1
        assert found.startswith(f"7:{column}: ") and said in found, found

    def test_all_of_it_is_told_at_once(self, tmp_path: Path) -> None:
        assert (
            len(problems(tmp_path, gate("inputs: {m: a.metrics}, require: ['m.auc >', 'm.x > 1', 'm.auc > params.y']")))
            == 3
        )

    def test_other_kinds_have_no_conditions(self, tmp_path: Path) -> None:
        said = problem(tmp_path, HEAD + "- {name: c, kind: container, require: ['true']}\n")
        assert "key 'require' is not for kind 'container'" in said


GROUPS = """\
apiVersion: mlops/v1
name: p
defaults: {image: img}
steps:
- name: x
  steps: &inner
  - {name: fit, kind: train, outputs: {model: model, loss: number}}
  - {name: score, kind: evaluate, inputs: {model: fit.model}, outputs: {metrics: {type: metrics, keys: [auc]}}}
- {name: y, steps: *inner}
- {name: f, kind: train, outputs: {model: {type: model, file: m.bin}, metrics: metrics, size: integer}}
- {name: g, kind: train, outputs: {model: model, metrics: metrics, size: number, extra: report}}
"""


def pick(rest: str) -> str:
    return f"{GROUPS}- {{name: p, kind: pick, {rest}}}\n"


class TestPick:
    def test_of_groups(self, tmp_path: Path) -> None:
        text = pick("from: [x, y], by: max(score.metrics.auc), outputs: {model: fit.model, metrics: score.metrics}")
        step = load(tmp_path, text + "- {name: use, kind: container, inputs: {m: p.model, w: p.winner}}\n").step("p")
        assert {name: output.type for name, output in step.spec.outputs.items()} == {
            "model": "model",
            "metrics": "metrics",
            "winner": "string",
        }
        assert step.choice is not None and step.choice.key == "auc"
        assert [candidate.name for candidate in step.choice.candidates] == ["x", "y"]
        assert step.choice.candidates[1].outputs == {"model": "y/fit.model", "metrics": "y/score.metrics"}
        assert step.choice.candidates[1].measure == "y/score.metrics"
        item = step.inputs["y/fit.model"]
        assert (item.step, item.output, item.optional, item.stage) == (("y", "fit"), "model", True, "none")

    def test_of_steps(self, tmp_path: Path) -> None:
        step = load(tmp_path, pick("from: [f, g], by: {min: size}, outputs: {best: {from: model, asset: true}}")).step(
            "p"
        )
        assert step.choice is not None and step.choice.key is None
        assert step.choice.candidates[0].outputs == {"best": "f.model"}
        assert (step.spec.outputs["best"].type, step.spec.outputs["best"].asset) == ("model", True)

    def test_a_key_of_a_measure_may_have_brackets(self, tmp_path: Path) -> None:
        step = load(tmp_path, pick("from: [f, g], by: max(metrics.f1 (macro)), outputs: {model: model}")).step("p")
        assert step.choice is not None and step.choice.key == "f1 (macro)"

    def test_a_pick_of_picks_and_a_reader_before_it(self, tmp_path: Path) -> None:
        rest = (
            "- {name: use, kind: predict, inputs: {m: last.model}}\n"
            "- {name: last, kind: pick, from: [p, q], by: max(metrics.auc), outputs: {model: model}}\n"
            "- {name: p, kind: pick, from: [f, g], by: max(metrics.auc), outputs: {model: model, metrics: metrics}}\n"
            "- {name: q, kind: pick, from: [g, f], by: max(metrics.auc), outputs: {model: model, metrics: metrics}}\n"
        )
        assert load(tmp_path, GROUPS + rest).step("use").inputs["m"].type == "model"

    @pytest.mark.parametrize(
        ("rest", "said"),
        [
            (
                "by: max(metrics.auc), outputs: {m: model}",
                "has no 'from'; expected two candidates or more, such as [forest, linear]",
            ),
            (
                "from: [f], by: max(metrics.auc), outputs: {m: model}",
                "picks from f alone; expected two candidates or more",
            ),
            (
                "from: [f, g], outputs: {m: model}",
                "step 'p' of kind pick has no 'by'; expected what is compared, such as max(score.metrics.auc)",
            ),
            (
                "from: [f, h], by: max(metrics.auc), outputs: {m: model}",
                "step 'p' picks from 'h', but there is no such step or group in sight",
            ),
            (
                "from: [f, f], by: max(metrics.auc), outputs: {m: model}",
                "picks from 'f' twice; expected each candidate once",
            ),
            (
                "from: [f, g], by: metrics.auc, outputs: {m: model}",
                "'metrics.auc' is no measure; expected one such as max(score.metrics.auc)",
            ),
            (
                "from: [f, g], by: {max: metrics.auc, min: size}, outputs: {m: model}",
                "a measure is to be large or small",
            ),
            (
                "from: [f, g], by: max(metrics), outputs: {m: model}",
                "'metrics' of 'f' is all of its metrics; expected one of them, such as 'metrics.auc'",
            ),
            (
                "from: [f, g], by: max(model), outputs: {m: model}",
                "'model' of 'f' is a model; expected a key of a metrics output",
            ),
            (
                "from: [f, g], by: max(metrics.auc)",
                "step 'p' of kind pick hands nothing on; expected outputs such as {model: fit.model}",
            ),
            (
                "from: [f, g], by: max(metrics.auc), outputs: {m: modle}",
                "'modle' is not made by 'f', which makes model, metrics, size; did you mean 'model'?",
            ),
            ("from: [f, g], by: max(metrics.auc), outputs: {m: extra}", "'extra' is not made by 'f'"),
            (
                "from: [f, g], by: max(metrics.auc), outputs: {m: metrics.auc}",
                "'metrics.auc' is a part of an output; expected all of it: 'metrics'",
            ),
            (
                "from: [f, g], by: max(metrics.auc), outputs: {n: size}",
                "'size' is integer in one candidate, number in another; expected one type",
            ),
            (
                "from: [f, g], by: max(metrics.auc), outputs: {winner: model}",
                "output 'winner' is the name of the candidate that won; expected another name",
            ),
            (
                "from: [f, g], by: max(metrics.auc), outputs: {m: {type: model}}",
                "output 'm' does not say what it is of the winner; expected such as 'm: fit.m'",
            ),
            (
                "from: [f, g], by: max(metrics.auc), outputs: {m: model}, inputs: {m: f.model}",
                "key 'inputs' is not for kind 'pick'",
            ),
            (
                "from: [x, y], by: max(score.metrics.acc), outputs: {m: fit.model}",
                "'score.metrics.acc' of 'x' is not among the 'keys' of that output; expected auc",
            ),
            (
                "from: [x, y], by: max(score.metrics.auc), outputs: {m: fitt.model}",
                "'fitt.model': there is no step 'fitt' in 'x'; expected one of fit, score; did you mean 'fit'?",
            ),
            (
                "from: [x, y], by: max(score.metrics.auc), outputs: {m: model}",
                "'model' is no output of 'x'; expected step.output, since that is a group",
            ),
            (
                "from: [x, f], by: max(score.metrics.auc), outputs: {m: fit.model}",
                "'score.metrics.auc' is not made by 'f'",
            ),
        ],
    )
    def test_what_does_not_fit_together_is_told(self, tmp_path: Path, rest: str, said: str) -> None:
        assert any(said in found for found in problems(tmp_path, pick(rest))), problems(tmp_path, pick(rest))

    def test_a_cycle_through_a_pick_is_found(self, tmp_path: Path) -> None:
        text = GROUPS + (
            "- {name: h, kind: train, inputs: {m: p.model}, outputs: {model: model, metrics: metrics}}\n"
            "- {name: p, kind: pick, from: [f, h], by: max(metrics.auc), outputs: {model: model}}\n"
        )
        assert "cycle" in problem(tmp_path, text)

    def test_only_a_pick_has_outputs_that_are_anothers(self, tmp_path: Path) -> None:
        said = problem(tmp_path, GROUPS + "- {name: c, kind: container, outputs: {m: {from: f.model}}}\n")
        assert "output 'm' has a 'from', which is for steps of kind pick" in said
