# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.cli.embedded.runs import new_run_directory, release
from airflow_mlops.cli.errors import CommandError
from airflow_mlops.cli.records import FILE, Order, find_run, read_order, write_order
from tests.cli.support import call

ORDER = Order(
    run_id="r", pipeline="churn", spec="/s.yaml", store="file:///tmp/none", instance="local-1", params={"C": [1, None]}
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AIRFLOW__MLOPS__STORE", raising=False)
    return tmp_path / "home"


def ended_run(name: str) -> Path:
    folder = new_run_directory(name)
    release(folder)
    return folder


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_order(tmp_path, ORDER)
    assert read_order(tmp_path) == ORDER


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "surprise": 1}', '{"version": 1}'])
def test_a_broken_order_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CommandError, match=FILE):
        read_order(tmp_path)


def test_a_run_is_found_by_any_unambiguous_part_of_its_name() -> None:
    older, newer = ended_run("churn"), ended_run("fraud")
    for text in ("fraud", newer.name, newer.name[-6:], newer.name[: len(newer.name) - 3]):
        assert find_run(text).path == newer
    assert find_run("churn").path == older


def test_last_is_the_newest_run(home: Path) -> None:
    ended_run("churn")
    newest = home / "runs" / "99990101T000000-fraud-abcdef"
    newest.mkdir()
    (newest / "run.json").write_text("{}")
    assert find_run("last").path == newest


def test_a_name_that_fits_several_runs_is_refused_with_their_names() -> None:
    first, second = ended_run("churn"), ended_run("churn")
    with pytest.raises(CommandError) as caught:
        find_run("2")
    assert first.name in str(caught.value) and second.name in str(caught.value)


def test_without_runs_it_is_said_how_to_start_one() -> None:
    with pytest.raises(CommandError, match="start one with airflow-mlops run SPEC"):
        find_run("last")


def test_clean_wants_to_know_what(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "clean")
    assert said.code == 2
    assert "exactly one of --older-than, --run, --all" in said.err


def test_clean_leaves_live_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    live, ended = new_run_directory("live"), ended_run("ended")
    try:
        assert call(capsys, "clean", "--run", live.name).code == 2
        assert call(capsys, "clean", "--all", "--yes").out.endswith("1 run removed\n")
        assert live.exists() and not ended.exists()
    finally:
        release(live)


def test_clean_leaves_what_is_younger(capsys: pytest.CaptureFixture[str]) -> None:
    ended = ended_run("ended")
    assert call(capsys, "clean", "--older-than", "1h", "--yes").out == "0 runs removed\n"
    assert ended.exists()


def test_clean_leaves_the_artifacts_of_another_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "store" / "other" / "churn" / "r"
    foreign.mkdir(parents=True)
    ended = ended_run("churn")
    write_order(ended, Order(**{**vars(ORDER), "store": (tmp_path / "store").as_uri(), "instance": "other"}))
    said = call(capsys, "clean", "--all", "--yes")
    assert said.code == 0
    assert "belong to instance other and stay" in said.out
    assert foreign.exists() and not ended.exists()
