# SPDX-License-Identifier: Apache-2.0
"""Measure the new model, and the champion if there is one, on the same rows."""

import json
import os
from pathlib import Path

import pandas
import skops.io
from sklearn.metrics import accuracy_score, roc_auc_score

test = pandas.read_csv(os.environ["MLOPS_INPUT_TEST"])
truth = test.pop("malignant")


def load(folder: str):
    return skops.io.load(Path(folder) / "model.skops")


model = load(os.environ["MLOPS_INPUT_MODEL"])
metrics = {
    "accuracy": accuracy_score(truth, model.predict(test)),
    "auc": roc_auc_score(truth, model.predict_proba(test)[:, 1]),
    "champion_accuracy": 0.0,  # of no model at all
}
if champion := os.environ.get("MLOPS_INPUT_CHAMPION"):
    metrics["champion_accuracy"] = accuracy_score(truth, load(champion).predict(test))
Path(os.environ["MLOPS_OUTPUT_METRICS"]).write_text(json.dumps(metrics))
print(metrics)
