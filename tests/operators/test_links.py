# SPDX-License-Identifier: Apache-2.0
"""The address behind the link on a task instance; that Airflow shows it is seen in ``tests/ui``."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

from airflow_mlops import ProcessContainerOperator
from airflow_mlops.artifacts import Place
from airflow_mlops.operators.links import ArtifactsLink

LATER = Place("i-1", "..", "a/b&dag_id=x+é", "train.fit", iteration="2", generation=3, incarnation=1)


def test_a_link_names_the_generation_and_the_incarnation_that_were_committed() -> None:
    step = ProcessContainerOperator(task_id="fit", command=["true"])
    step.committed = LATER
    url = urlsplit(ArtifactsLink().get_link(step, ti_key=SimpleNamespace(map_index=2)))
    assert url.path == "mlops/artifacts"
    assert parse_qsl(url.query, strict_parsing=True) == [
        ("dag_id", ".."),
        ("run_id", "a/b&dag_id=x+é"),
        ("task_id", "train.fit"),
        ("map_index", "2"),
        ("generation", "3"),
        ("incarnation", "1"),
    ]


def test_a_step_without_a_result_has_no_link() -> None:
    step = ProcessContainerOperator(task_id="fit", command=["true"])
    assert ArtifactsLink().get_link(step, ti_key=SimpleNamespace(map_index=-1)) == ""
