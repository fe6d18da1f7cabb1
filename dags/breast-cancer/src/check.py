# SPDX-License-Identifier: Apache-2.0
"""Measure a model on the held-out rows: numbers and a ROC curve for machines, a page for people."""

import json
import os
from pathlib import Path

import pandas
import skops.io
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, roc_auc_score, roc_curve

# skops loads what it knows to be harmless. Trees it wants named; this file comes from our own fit.py.
model = skops.io.load(os.environ["MLOPS_INPUT_MODEL"], trusted=["sklearn.tree._tree.Tree"])
test = pandas.read_csv(os.environ["MLOPS_INPUT_TEST"])
truth = test.pop("malignant")
chance = model.predict_proba(test)[:, 1]
verdict = model.predict(test)

false_positives, true_positives, _ = roc_curve(truth, chance)
confusion = confusion_matrix(truth, verdict).tolist()
metrics = {
    "accuracy": accuracy_score(truth, verdict),
    "auc": roc_auc_score(truth, chance),
    "log_loss": log_loss(truth, chance),
    "roc": {
        "type": "curve",
        "x": false_positives.tolist(),
        "y": true_positives.tolist(),
        "x_label": "false positive rate",
        "y_label": "true positive rate",
    },
    "confusion": {"type": "matrix", "labels": ["benign", "malignant"], "values": confusion},
}
Path(os.environ["MLOPS_OUTPUT_METRICS"]).write_text(json.dumps(metrics))

(right_benign, false_alarms), (missed, found) = confusion
report = f"""\
# {type(model).__name__} on {len(test)} held-out tumours

| | called benign | called malignant |
|---|---|---|
| **benign** | {right_benign} | {false_alarms} |
| **malignant** | {missed} | {found} |

Accuracy {metrics["accuracy"]:.3f}, AUC {metrics["auc"]:.3f}, log loss {metrics["log_loss"]:.3f}.
"""
Path(os.environ["MLOPS_OUTPUT_REPORT"]).write_text(report)
print(report)
