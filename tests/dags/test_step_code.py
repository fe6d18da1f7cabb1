# SPDX-License-Identifier: Apache-2.0
"""The examples' step code, run as plain programs: it works, and its results make sense."""

from __future__ import annotations

import csv
import importlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.artifacts.metrics import parse_metrics
from tests.dags.by_hand import EXAMPLES, Example, Failed, need_sklearn

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Example:
    need_sklearn()
    example = Example("breast-cancer", tmp_path_factory.mktemp("breast-cancer"))
    example.run_all()
    return example


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Example:
    example = Example("word-count", tmp_path_factory.mktemp("word-count"))
    example.run_all()
    return example


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Rows that drifted by a standard deviation."""
    need_sklearn()
    example = Example("drift-watch", tmp_path_factory.mktemp("drift-watch"), params={"shift": 1})
    example.run_all()
    return example


@pytest.fixture(scope="module")
def retrain(watch: Example, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The first training, on those rows."""
    made = {"drifted.dataset": watch.made["announce.rows"]}
    example = Example("drift-retrain", tmp_path_factory.mktemp("drift-retrain"), made=made)
    example.run_all()
    return example


CHAMPION = "models:breast-cancer-drift@champion"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_split_hands_on_every_row_once(cancer: Example) -> None:
    parts = {name: rows(cancer.made[f"split.{name}"]) for name in ("train", "test", "fresh")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 381, "test": 128, "fresh": 60}
    features = {
        tuple(value for key, value in row.items() if key != "malignant") for part in parts.values() for row in part
    }
    assert len(features) == 569


def test_rows_to_predict_have_no_label(cancer: Example) -> None:
    assert "malignant" in rows(cancer.made["split.test"])[0]
    assert "malignant" not in rows(cancer.made["split.fresh"])[0]


@pytest.mark.parametrize("step", ["logistic/check", "forest/check"])
def test_both_candidates_are_good(cancer: Example, step: str) -> None:
    metrics = cancer.metrics(f"{step}.metrics")
    assert 0.9 < metrics["accuracy"] <= 1
    assert 0.97 < metrics["auc"] <= 1
    assert 0 < metrics["log_loss"] < 0.3


def test_the_roc_curve_and_the_confusion_matrix_are_metrics_of_a_documented_shape(cancer: Example) -> None:
    path = cancer.made["forest/check.metrics"]
    assert sorted(parse_metrics(path.read_bytes(), ["accuracy", "auc"])) == ["accuracy", "auc", "log_loss"]
    metrics = cancer.metrics("forest/check.metrics")
    assert (metrics["roc"]["x"][0], metrics["roc"]["y"][-1]) == (0, 1)
    assert sum(map(sum, metrics["confusion"]["values"])) == 128


def test_candidates_differ(cancer: Example) -> None:
    assert cancer.metrics("logistic/check.metrics")["log_loss"] != cancer.metrics("forest/check.metrics")["log_loss"]


def test_the_report_is_a_page_for_people(cancer: Example) -> None:
    page = cancer.made["forest/check.report"].read_text(encoding="utf-8")
    assert page.startswith("# RandomForestClassifier on 128 held-out tumours")
    assert f"AUC {cancer.metrics('forest/check.metrics')['auc']:.3f}" in page


def test_the_larger_auc_wins_and_its_model_is_handed_on(cancer: Example) -> None:
    aucs = {name: cancer.metrics(f"{name}/check.metrics")["auc"] for name in ("logistic", "forest")}
    winner = max(aucs, key=lambda name: aucs[name])
    assert cancer.made["choose.winner"] == winner
    assert cancer.made["choose.model"].read_bytes() == cancer.made[f"{winner}/fit.model"].read_bytes()
    assert cancer.metrics("choose.metrics") == cancer.metrics(f"{winner}/check.metrics")


def test_every_row_is_predicted_and_most_are_right(cancer: Example) -> None:
    predictions = rows(cancer.made["predict.predictions"])
    assert len(predictions) == cancer.made["split.rows"] == 60
    assert {row["model"] for row in predictions} == {"version 1"}
    # The labels were taken away, so they are had again from the data set, by looking the rows up.
    datasets = importlib.import_module("sklearn.datasets")  # not on every machine that runs the other tests
    features, labels = datasets.load_breast_cancer(return_X_y=True)
    malignant = {tuple(row): label == 0 for row, label in zip(features.tolist(), labels.tolist(), strict=True)}
    fresh = [tuple(map(float, row.values())) for row in rows(cancer.made["split.fresh"])]
    right = sum(malignant[row] == (said["malignant"] == "True") for row, said in zip(fresh, predictions, strict=True))
    assert right / len(fresh) > 0.9


def test_another_number_of_rows_than_expected_is_refused(cancer: Example) -> None:
    again = Example("breast-cancer", cancer.folder / "again", made={**cancer.made, "split.rows": 59})
    with pytest.raises(Failed, match="has 60 rows instead of 59"):
        again.run("predict")


def test_parameters_reach_the_programs(cancer: Example) -> None:
    params = {"test_fraction": 0.5, "fresh_rows": 9, "trees": 3}
    other = Example("breast-cancer", cancer.folder / "other", params=params)
    other.run("split")
    assert (len(rows(other.made["split.test"])), other.made["split.rows"]) == (280, 9)
    assert "n_estimators=3" in other.run("forest/fit")


def test_awk_counts_as_python_does(words: Example) -> None:
    text = (EXAMPLES / "word-count/src/jabberwocky.txt").read_text(encoding="utf-8").lower()
    letters = "".join(char if "a" <= char <= "z" else " " for char in text)
    expected = Counter(word for word in letters.split() if len(word) >= 3)
    counted = [line.split("\t") for line in words.made["count.counts"].read_text(encoding="utf-8").splitlines()]
    assert {word: int(count) for count, word in counted} == expected
    assert words.made["words.total"] == expected.total()


def test_awk_writes_metrics(words: Example) -> None:
    metrics = words.metrics("measure.metrics")
    assert metrics["words"] == words.made["words.total"] == 142
    assert metrics["richness"] == pytest.approx(metrics["distinct"] / metrics["words"], abs=1e-4)


def test_the_report_lists_the_ten_most_frequent_words(words: Example) -> None:
    lines = words.made["top.report"].read_text(encoding="utf-8").splitlines()
    assert lines[:4] == ["| times | word |", "|---|---|", "| 19 | the |", "| 14 | and |"]
    assert len(lines) == 12


def test_no_words_to_measure_is_a_failure_that_says_so(tmp_path: Path) -> None:
    example = Example("word-count", tmp_path, params={"min_length": 20})
    example.run("words")
    example.run("count")
    with pytest.raises(Failed, match="no words to measure"):
        example.run("measure")


def test_quickstart_trains_a_good_model(tmp_path: Path) -> None:
    need_sklearn()
    example = Example("quickstart", tmp_path)
    example.run_all()
    assert example.metrics("check.metrics")["accuracy"] > 0.9


def test_the_columns_that_were_shifted_are_those_that_drifted(watch: Example) -> None:
    metrics = watch.metrics("announce.metrics")
    assert metrics == watch.metrics("compare.metrics")
    drifted = {row[0] for row in metrics["drift"]["rows"] if row[2]}
    sizes = {
        name
        for name in rows(watch.made["data.current"])[0]
        if any(word in name for word in ("radius", "perimeter", "area"))
    }
    assert drifted == sizes and len(sizes) == metrics["drifted_columns"] == 9
    assert watch.made["announce.rows"].read_bytes() == watch.made["data.current"].read_bytes()


def test_rows_that_did_not_drift_are_not_taken_for_drift(watch: Example) -> None:
    example = Example("drift-watch", watch.folder / "still")
    assert example.run("data") and "0 of 30 columns drifted" in example.run("compare")


def test_a_new_champion_ends_the_drift_since_it_brings_what_it_was_trained_on(watch: Example, retrain: Example) -> None:
    made = {**watch.made, CHAMPION: retrain.made["fit.model"]}
    assert "0 of 30 columns drifted" in Example("drift-watch", watch.folder / "after", made=made).run("compare")


def test_before_the_first_champion_nothing_cools_down_and_there_is_nobody_to_beat(retrain: Example) -> None:
    assert retrain.made["age.hours"] > 24 * 365 * 50
    assert retrain.metrics("check.metrics")["accuracy"] > 0.9
    assert retrain.metrics("check.metrics")["champion_accuracy"] == 0


def test_a_champion_that_was_just_registered_is_young(retrain: Example) -> None:
    again = Example("drift-retrain", retrain.folder / "again", made=dict(retrain.made))
    assert "registered 0.0 hours ago" in again.run("age")
    assert 0 <= again.made["age.hours"] < 0.1


def test_a_champion_of_before_the_drift_falls_short_on_the_rows_of_today(watch: Example, retrain: Example) -> None:
    old = Example("drift-retrain", retrain.folder / "old", made={"drifted.dataset": watch.made["data.reference"]})
    old.run("fit")
    new = Example("drift-retrain", retrain.folder / "new", made={**retrain.made, CHAMPION: old.made["fit.model"]})
    new.run("check")
    metrics = new.metrics("check.metrics")
    assert 0 < metrics["champion_accuracy"] < metrics["accuracy"] - 0.05
