# SPDX-License-Identifier: Apache-2.0
"""What users see, held against files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.spec import SpecError, load_pipeline, to_mermaid, to_text
from tests.spec.support import DATA


def test_ten_mistakes_give_ten_problems_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    with pytest.raises(SpecError) as caught:
        load_pipeline("ten-mistakes.yaml")
    assert str(caught.value) + "\n" == Path("ten-mistakes.txt").read_text(encoding="utf-8")
    assert len(caught.value.problems) == 10


@pytest.mark.parametrize("name", ["breast-cancer", "everything"])
def test_example_is_rendered_as_text_and_as_mermaid(name: str) -> None:
    pipeline = load_pipeline(DATA / f"{name}.yaml")
    rendered = to_text(pipeline) + "\n" + to_mermaid(pipeline)
    assert rendered == (DATA / f"{name}.graph.txt").read_text(encoding="utf-8")
    assert max(len(line) for line in to_text(pipeline).splitlines()) <= 80


def test_same_spec_gives_same_tree_under_any_hash_seed() -> None:
    code = (
        "from airflow_mlops.spec import load_pipeline; import sys;"
        "p = load_pipeline(sys.argv[1]); print(p.digest, [(s.path, s.needs, list(s.inputs)) for s in p.steps()], p.params)"
    )
    seen = set()
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", code, str(DATA / "everything.yaml")]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert len(seen) == 1
    assert "sha256:" in seen.pop()
