# SPDX-License-Identifier: Apache-2.0
"""What a node that falls silent does to a step whose pod it runs: a real kubelet that stands still, and Kubernetes' own controllers."""

from __future__ import annotations

import pytest

from tests.operators.test_api_faults import Step, new_step, pool, step
from tests.parts.second_node import second_node

__all__ = ["new_step", "pool", "step"]

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.slow]

SOON = [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]
"""What the guide advises, with fewer seconds."""


def test_a_step_whose_node_is_lost_fails_as_infrastructure_with_the_reason_and_runs_again(step: Step) -> None:
    cluster = step.namespace.cluster
    with second_node(cluster):
        done = step.start(more={"tolerations": SOON})
        step.runs()
        with cluster.silent_node():
            step.failed(seconds=240)
        step.may_end()
        result = done.result()
    assert result.tasks == {"step": "success"}, result.log[-8000:]
    assert "infrastructure: step 'step': its pod was disrupted (DeletionByTaintManager)" in result.log
    assert "and its node node has not said since that it is gone" in result.log
    assert (step.ran(), result.xcoms["step"]["parameters"]) == (2, {"n": 2})
    assert step.namespace.left() == []
