# SPDX-License-Identifier: Apache-2.0
"""What reading a spec may cost: every DAG file is parsed again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_mlops.spec import load_pipeline

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = 0.110
"""CPU seconds for 1000 steps, imports excluded; 0.05 on a machine that does nothing else."""


def test_a_thousand_steps_are_read_within_the_budget(tmp_path: Path) -> None:
    lines = ["apiVersion: mlops/v1", "name: big", "steps:"]
    for index in range(1000):
        lines.append(f"  - name: step-{index}\n    kind: container\n    image: python:3.12-slim")
        lines.append(f'    command: [python, -c, "print({index})"]\n    env: {{INDEX: "{index}", MODE: fast}}')
        if index:
            lines.append(f"    needs: [step-{index - 1}]")
    file = tmp_path / "big.yaml"
    file.write_text("\n".join(lines) + "\n")
    costs = []
    for _ in range(5):
        started = time.process_time()
        pipeline = load_pipeline(file)
        costs.append(time.process_time() - started)
    assert len(list(pipeline.steps())) == 1000
    assert min(costs) < BUDGET
