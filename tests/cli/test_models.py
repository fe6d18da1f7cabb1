# SPDX-License-Identifier: Apache-2.0
"""``models``: what there is, what is used, and who decided that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_mlops.artifacts import Artifact, Store, digest_path
from airflow_mlops.registry import Facts, FileRegistry, promote
from tests.cli.support import Said, call

HOSTILE = "\x1b[2Jx"

Say = Callable[..., Said]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileRegistry:
    """The registry of a user's runs, with two versions of a model."""
    store = Store.open(f"file://{tmp_path}/store")
    monkeypatch.setenv("AIRFLOW_MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW__MLOPS__STORE", store.url)
    monkeypatch.setenv("AIRFLOW__MLOPS__INSTANCE", "mine")
    monkeypatch.setenv("COLUMNS", "100")
    found = FileRegistry(store, "mine")
    for number in (1, 2):
        file = tmp_path / f"{number}.bin"
        file.write_text(f"model {number}")
        digested = digest_path(file)
        store.upload(file, f"mine/p/run/fit/-/1/a{number}/outputs/model/m.bin")
        uri = store.uri(f"mine/p/run/fit/-/1/a{number}/outputs/model/m.bin")
        artifact = Artifact("model", "model", uri, digested.digest, digested.size, file="m.bin")
        facts = Facts(metrics={"auc": 0.9 + number / 100, HOSTILE: 1}, description=f"{HOSTILE} number {number}")
        found.register("churn", artifact, by="run r of p", facts=facts)
    promote(found, "churn", 1, by=HOSTILE, why="first")
    return found


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], registry: FileRegistry) -> Say:
    return lambda *words: call(capsys, "models", *words)


def test_models_and_their_versions_are_shown(say: Say) -> None:
    assert "churn" in say("list").out and "champion 1" in say("list").out
    shown = say("show", "churn")
    assert (shown.code, shown.err) == (0, "")
    assert "champion" in shown.out and "auc 0.91" in shown.out and "auc 0.92" in shown.out
    assert "champion is version 1" in shown.out and "(first)" in shown.out
    one = say("show", "churn@champion").out
    assert "models:churn/1" in one and "sha256:" in one and "number 1" in one
    for text in (say("list").out, shown.out, one):
        assert "\x1b" not in text


def test_programs_read_json(say: Say) -> None:
    assert json.loads(say("list", "--json").out) == {"churn": {"aliases": {"champion": 1}, "versions": [1, 2]}}
    document = json.loads(say("show", "churn", "--json").out)
    assert [one["aliases"] for one in document["versions"]] == [["champion"], []]
    assert document["history"][0]["changed"] == {"champion": 1}
    assert json.loads(say("show", "churn/2", "--json").out)["version"] == 2


def test_promotion_and_its_way_back_are_written_down(say: Say, registry: FileRegistry) -> None:
    assert say("promote", "churn/2", "--why", "it is better").out == (
        "version 2 of churn is the champion now, and version 1 is the previous one\n"
    )
    move = registry.history("churn")[-1]
    assert (move.changed, move.why) == ({"champion": 2, "previous": 1}, "it is better") and " at " in move.by
    assert "is the champion already" in say("promote", "models:churn/2").out
    assert say("rollback", "churn").out.startswith("version 1 of churn is the champion again")
    assert registry.aliases("churn") == {"champion": 1, "previous": 2}


def test_aliases_are_given_and_taken_away(say: Say, registry: FileRegistry) -> None:
    assert say("alias", "churn/2", "shadow").out == "shadow is churn/2\n"
    assert say("alias", "churn/2", "shadow").out == "shadow is churn/2, as before\n"
    assert say("alias", "churn", "shadow", "--remove").out == "shadow of churn is removed\n"
    assert registry.aliases("churn") == {"champion": 1}


def test_the_champion_is_made_by_promotion_and_never_by_a_step_alone(
    say: Say, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected airflow-mlops models promote churn/2" in say("alias", "churn/2", "champion").err
    spec = tmp_path / "p.yaml"
    spec.write_text(
        "apiVersion: mlops/v1\nname: p\ndefaults: {runtime: process}\nsteps:\n"
        "- {name: fit, kind: train, command: [x], outputs: {model: model, metrics: metrics}}\n"
        "- {name: r, kind: register, model: churn, inputs: {m: fit.model}}\n"
        "- {name: other, kind: train, command: [x], outputs: {model: model, metrics: metrics}}\n"
        "- {name: best, kind: pick, from: [fit, other], by: max(metrics.auc), outputs: {model: model}}\n"
    )
    assert "alone it would register what its gates have not let through" in call(capsys, "step", spec, "r").err
    assert "of kind pick, which compares steps of its run" in call(capsys, "step", spec, "best").err


def test_a_version_is_deleted_when_that_was_meant_and_nobody_points_to_it(say: Say, registry: FileRegistry) -> None:
    assert say("delete", "churn/2").out.startswith("would delete models:churn/2, 7 B at ")
    assert [version.version for version in registry.versions("churn")] == [1, 2]
    refused = say("delete", "churn@champion", "--yes")
    assert refused.code == 2 and "version 1 of churn is champion" in refused.err
    assert say("delete", "churn/2", "--yes").out == "deleted models:churn/2\n"
    assert [version.version for version in registry.versions("churn")] == [1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "chrn"), "there is no model 'chrn'"),
        (("show", "chrn"), "did you mean 'churn'?"),
        (("show", "churn/9"), "has no version 9"),
        (("show", "churn@prod"), "no alias"),
        (("show", "a b"), "is no name of a model"),
        (("promote", "churn"), "does not say which version; expected such as churn/3 or churn@challenger"),
        (("rollback", "churn/1"), "names a version; expected the model alone, such as churn"),
        (("list", "--store", "file:///x", "--deployment"), "expected one of them"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(say: Say, words: tuple[str, ...], said: str) -> None:
    answer = say(*words)
    assert answer.code == 2 and said in answer.err, answer.err


def test_a_store_without_models_says_how_one_comes_to_be(say: Say, tmp_path: Path) -> None:
    assert "a step of kind register makes one" in say("list", "--store", str(tmp_path / "other")).out
