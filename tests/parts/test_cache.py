# SPDX-License-Identifier: Apache-2.0
"""Built things are made once, and only whole ones are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.cache import built, recipe_hash


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(text: str) -> Callable[[Path], Path]:
    def build(scratch: Path) -> Path:
        (scratch / "thing").write_text(text)
        return scratch / "thing"

    return build


def test_a_thing_is_built_once() -> None:
    assert built("thing-1", make("first")).read_text() == "first"
    assert built("thing-1", make("second")).read_text() == "first"


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(own_cache: Path) -> None:
    def fail(scratch: Path) -> Path:
        (scratch / "half").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        built("thing-1", fail)
    assert [file.name for file in own_cache.iterdir()] == ["thing-1.lock"]
    assert built("thing-1", make("whole")).read_text() == "whole"


def test_a_changed_recipe_has_another_name() -> None:
    assert recipe_hash({"a": 1, "b": 2}) == recipe_hash({"b": 2, "a": 1})
    assert recipe_hash({"a": 1}) != recipe_hash({"a": 2})
