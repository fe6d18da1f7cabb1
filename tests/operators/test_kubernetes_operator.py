# SPDX-License-Identifier: Apache-2.0
"""What the operator does at moments that a cluster cannot be held at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")
pytest.importorskip("kubernetes")

from airflow_mlops.operators import KubernetesContainerOperator, kubernetes_making
from airflow_mlops.operators.failures import StepStopped


def test_a_pod_that_came_to_be_while_the_step_was_stopped_is_known_and_can_be_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step: Any = KubernetesContainerOperator(task_id="fit", image="busybox:1", command=["true"])
    step._pods = SimpleNamespace()

    def stopped_meanwhile(*_: Any) -> None:
        # As the signal's handler leaves it that came before there was a pod.
        step._killed, step._name = True, None

    monkeypatch.setattr(kubernetes_making, "create_pod", stopped_meanwhile)
    with pytest.raises(StepStopped):
        step.run_program(SimpleNamespace(id="abc", adopted=False))
    assert step._name == "mlops-abc"
