# SPDX-License-Identifier: Apache-2.0
"""What a step is as an Airflow operator, before anything runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

pytestmark = pytest.mark.airflow


def steps(**more: Any) -> list[Any]:
    """A step of each runtime, with what Airflow converts: durations, the weight rule, the DAG, default arguments."""
    from airflow.sdk import DAG, Asset

    from airflow_mlops.operators import DockerTrainOperator, ProcessContainerOperator

    keywords: dict[str, Any] = {
        "retries": 2,
        "retry_delay": 5,
        "max_retry_delay": 60,
        "weight_rule": "upstream",
        "outlets": Asset("a"),
        "params": {"x": 1},
        "execution_timeout": timedelta(hours=1),
        "command": ["true"],
        "env": {"A": "{{ ds }}"},
        **more,
    }
    with DAG("d", schedule=None, default_args={"owner": "them", "pool_slots": 2}):
        fit = DockerTrainOperator(
            task_id="fit", image="i:1", outputs={"model": "model"}, network_mode="none", **keywords
        )
        use = ProcessContainerOperator(task_id="use", inputs={"model": fit.artifact("model")}, **keywords)
    return [fit, use]


def facts(operator: Any) -> dict[str, str]:
    """Every attribute of an operator, as text without addresses."""
    import re

    return {name: re.sub(r"0x[0-9a-f]+", "0x…", repr(value)) for name, value in sorted(vars(operator).items())}


def test_the_quicker_assignment_leaves_what_airflows_own_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import BaseOperator

    from airflow_mlops.operators.base import StepOperator

    quick = [facts(step) for step in steps()]
    monkeypatch.setattr(StepOperator, "__setattr__", BaseOperator.__setattr__)
    assert quick == [facts(step) for step in steps()]
    assert quick[0]["retry_delay"] == "datetime.timedelta(seconds=5)"


def test_an_input_that_is_assigned_later_is_waited_for() -> None:
    fit, use = steps()
    assert use.upstream_task_ids == {"fit"}
    from airflow_mlops.operators import ProcessContainerOperator

    late = ProcessContainerOperator(task_id="late", command=["true"], dag=fit.dag)
    late.inputs = {"model": fit.artifact("model")}
    assert late.upstream_task_ids == {"fit"}


def test_a_converter_of_a_subclass_is_applied() -> None:
    from airflow_mlops.operators import ProcessContainerOperator

    class Louder(ProcessContainerOperator):
        def __init__(self, *, word: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.word = word

        def _convert_word(self, value: str) -> str:
            return value.upper()

    assert Louder(task_id="loud", word="a", command=["true"]).word == "A"


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"outputs": {"m": "modle"}}, r"outputs\['m'\] is 'modle'"),
        ({"outputs": ["m"]}, r"outputs is \['m'\]; expected a dictionary"),
        ({"secrets": {"T": {"connection": "c"}}}, r"secrets\['T'\].*names a field"),
        ({"memory": "much"}, "resources is .*memory"),
        ({"volumes": [{"source": "/a"}]}, "volumes is .*target"),
    ],
)
def test_what_an_author_gets_wrong_is_named(keywords: dict[str, Any], says: str) -> None:
    from airflow_mlops.operators import ProcessContainerOperator
    from airflow_mlops.operators.failures import BadStep

    with pytest.raises(BadStep, match=says):
        ProcessContainerOperator(task_id="t", command=["true"], **keywords)
