# SPDX-License-Identifier: Apache-2.0
"""What each kind demands of a step, beside what its keys are by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.documents import KEY
from airflow_mlops.spec.picking import WINNER

if TYPE_CHECKING:
    from airflow_mlops.spec.graph import Step

Location = tuple[Any, ...]
Broken = Callable[["Step", str], bool]
"""Whether a key of a step was wrong, so that nothing can be said about it."""

Demand = Iterator[tuple[Location, str]]


def _train(step: Step, broken: Broken) -> Demand:
    if not broken(step, "outputs") and not any(output.type == "model" for output in step.spec.outputs.values()):
        yield (
            _near(step, "outputs"),
            f"step '{step.spec.name}' of kind train makes no model; expected an output such as {{model: model}}",
        )


def _evaluate(step: Step, broken: Broken) -> Demand:
    if not broken(step, "outputs") and not any(output.type == "metrics" for output in step.spec.outputs.values()):
        yield (
            _near(step, "outputs"),
            f"step '{step.spec.name}' of kind evaluate makes no metrics"
            f"; expected an output such as {{metrics: metrics}}",
        )


def _predict(step: Step, broken: Broken) -> Demand:
    # An input that could not be looked up may have been the model.
    if broken(step, "inputs") or len(step.inputs) != len(step.spec.inputs):
        return
    models = [name for name, item in step.inputs.items() if item.type == "model"]
    if len(models) != 1:
        found = f"has {len(models)} model inputs ({', '.join(models)})" if models else "has no model input"
        yield (
            _near(step, "inputs"),
            f"step '{step.spec.name}' of kind predict {found}; expected exactly one, such as {{model: fit.model}}",
        )


def _operator(step: Step, broken: Broken) -> Demand:
    if step.spec.operator is None and not broken(step, "operator"):
        yield (
            (),
            f"step '{step.spec.name}' of kind operator has no operator"
            f"; expected 'operator: {{class: …, arguments: {{…}}}}'",
        )


def _import(step: Step, broken: Broken) -> Demand:
    spec = step.spec
    if spec.uri is None and spec.asset is None and not broken(step, "uri") and not broken(step, "asset"):
        yield (
            (),
            f"step '{spec.name}' of kind import has no 'uri'; expected one such as 'uri: s3://lake/customers/', or an 'asset'",
        )
    if spec.type is None and not broken(step, "type"):
        yield (), f"step '{spec.name}' of kind import has no 'type'; expected one such as 'type: dataset'"
    if spec.asset is not None:
        for key in ("uri", "digest"):
            if getattr(spec, key) is not None:
                yield (
                    (key, KEY),
                    f"step '{spec.name}' imports an asset, which says its {key} itself; expected 'asset' or '{key}', not both",
                )


def _gate(step: Step, broken: Broken) -> Demand:
    spec = step.spec
    if not spec.require and not broken(step, "require"):
        yield (
            _near(step, "require"),
            f"step '{spec.name}' of kind gate requires nothing; expected 'require: [\"m.accuracy >= 0.93\"]'",
        )


def _approve(step: Step, broken: Broken) -> Demand:
    spec = step.spec
    if spec.default is not None and spec.timeout is None and not broken(step, "timeout"):
        yield (
            ("default", KEY),
            f"step '{spec.name}' has a 'default', which is the answer after its 'timeout'; expected a 'timeout', too, such as 'timeout: 3d'",
        )


def _pick(step: Step, broken: Broken) -> Demand:
    spec = step.spec
    if len(spec.from_) < 2 and not broken(step, "from"):
        found = f"picks from {spec.from_[0]} alone" if spec.from_ else "has no 'from'"
        yield (
            _near(step, "from_"),
            f"step '{spec.name}' of kind pick {found}; expected two candidates or more, such as [forest, linear]",
        )
    if not spec.outputs.keys() - {WINNER} and not broken(step, "outputs"):
        yield (), f"step '{spec.name}' of kind pick hands nothing on; expected outputs such as {{model: fit.model}}"
    if spec.by is None and not broken(step, "by"):
        yield (
            (),
            f"step '{spec.name}' of kind pick has no 'by'; expected what is compared, such as max(score.metrics.auc)",
        )


def _register(step: Step, broken: Broken) -> Demand:
    spec = step.spec
    if spec.model is None and not broken(step, "model"):
        yield (
            (),
            f"step '{spec.name}' of kind register has no 'model'; expected the name to register under, such as 'model: churn'",
        )
    if broken(step, "inputs") or len(step.inputs) != len(spec.inputs):
        return
    models = [name for name, item in step.inputs.items() if item.type == "model"]
    if len(models) != 1:
        found = f"has {len(models)} model inputs ({', '.join(models)})" if models else "has no model input"
        yield (
            _near(step, "inputs"),
            f"step '{spec.name}' of kind register {found}; expected exactly one, such as {{model: fit.model}}",
        )
    measured = [name for name, item in step.inputs.items() if item.type == "metrics"]
    if len(measured) > 1:
        yield (
            _near(step, "inputs"),
            f"step '{spec.name}' of kind register has {len(measured)} inputs of metrics; expected one",
        )
    for name, item in step.inputs.items():
        if item.type == "model" and item.optional:
            yield (
                ("inputs", name),
                f"input '{name}' is optional, and a step of kind register does nothing without; expected no 'optional'",
            )
        if item.type not in ("model", "metrics"):
            yield (
                ("inputs", name),
                f"input '{name}' is a {item.type}, which is not registered; expected the model and its metrics",
            )


def _near(step: Step, key: str) -> Location:
    return (key.rstrip("_"), KEY) if key in step.spec.model_fields_set else ()


DEMANDS: dict[str, Callable[[Step, Broken], Demand]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "operator": _operator,
    "import": _import,
    "gate": _gate,
    "pick": _pick,
    "approve": _approve,
    "register": _register,
}
"""By kind: where a step is not what its kind demands, and what to say about it."""
