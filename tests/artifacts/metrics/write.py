# SPDX-License-Identifier: Apache-2.0
"""Metrics of every shape that scikit-learn has numbers for, written without anything of ours."""

import json
import os
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, precision_recall_curve, roc_curve
from sklearn.model_selection import learning_curve, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = load_breast_cancer()
train, test, train_labels, labels = train_test_split(data.data, data.target, random_state=0)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, train_labels)
verdict, chance = model.predict(test), model.predict_proba(test)[:, 1]

false_positives, true_positives, thresholds = roc_curve(labels, chance)
roc = {
    "type": "curve",
    "x": false_positives.tolist(),
    "y": true_positives.tolist(),
    "thresholds": [None, *thresholds[1:].tolist()],  # the first is infinite, which JSON has no number for
    "x_label": "false positive rate",
    "y_label": "true positive rate",
}

precision, recall, thresholds = precision_recall_curve(labels, chance)
precision_recall = {
    "type": "curve",
    "x": recall.tolist(),
    "y": precision.tolist(),
    "thresholds": [*thresholds.tolist(), None],  # the last point has none
    "x_label": "recall",
    "y_label": "precision",
}

sizes, train_scores, test_scores = learning_curve(model, train, train_labels, train_sizes=[0.2, 0.6, 1.0], cv=3)
learning = {
    "type": "curve",
    "x_label": "rows",
    "y_label": "accuracy",
    "series": [
        {"name": "training", "x": sizes.tolist(), "y": train_scores.mean(axis=1).tolist()},
        {"name": "validation", "x": sizes.tolist(), "y": test_scores.mean(axis=1).tolist()},
    ],
}

confusion = {
    "type": "matrix",
    "values": confusion_matrix(labels, verdict).tolist(),
    "labels": data.target_names.tolist(),
    "y_label": "what it is",
    "x_label": "what it was called",
}

report = classification_report(labels, verdict, target_names=data.target_names, output_dict=True)
by_class = {
    "type": "table",
    "columns": ["class", "precision", "recall", "rows"],
    "rows": [[name, *(report[name][key] for key in ("precision", "recall", "support"))] for name in data.target_names],
}

metrics = {
    "accuracy": accuracy_score(labels, verdict),
    "roc": roc,
    "precision_recall": precision_recall,
    "learning": learning,
    "confusion": confusion,
    "by_class": by_class,
}
Path(os.environ["MLOPS_OUTPUT_METRICS"]).write_text(json.dumps(metrics, allow_nan=False))
