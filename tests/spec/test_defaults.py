# SPDX-License-Identifier: Apache-2.0
"""How what holds for all steps and what a step says of itself come together."""

from __future__ import annotations

from pathlib import Path

from airflow_mlops.spec import load_pipeline

SPEC = """
apiVersion: mlops/v1
name: p
defaults:
  image: i
  runtime: kubernetes
  kubernetes: {namespace: ml, labels: {team: churn, tier: a}}
  pod: {spec: {hostname: h, tolerations: [{key: a}], nodeSelector: {disk: fast}}}
steps:
  - name: fit
    kind: container
    command: [a]
    kubernetes: {labels: {tier: b}}
    pod: {spec: {tolerations: [{key: b}], nodeSelector: {zone: z}}}
"""


def test_pods_of_defaults_and_of_a_step_are_merged_all_the_way_down(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(SPEC)
    pipeline = load_pipeline(file)
    (step,) = pipeline.steps()
    assert step.spec.kubernetes == {"namespace": "ml", "labels": {"team": "churn", "tier": "b"}}
    assert step.spec.pod == {
        "spec": {"hostname": "h", "tolerations": [{"key": "b"}], "nodeSelector": {"disk": "fast", "zone": "z"}}
    }
    lines = [
        pipeline.problem(step, path, "x").line
        for path in (("pod", "spec", "hostname"), ("pod", "spec", "tolerations"), ("kubernetes", "labels", "team"))
    ]
    assert lines == [8, 14, 7]
