# SPDX-License-Identifier: Apache-2.0
"""Split the breast cancer data: rows to train with, rows to measure with, and rows without labels to predict."""

import os
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

seed = int(os.environ["MLOPS_PARAM_SEED"])
test_fraction = float(os.environ["MLOPS_PARAM_TEST_FRACTION"])
fresh_rows = int(os.environ["MLOPS_PARAM_FRESH_ROWS"])

data = load_breast_cancer(as_frame=True).frame
# The data set says 0 for malignant; what is looked for is better called 1.
data["malignant"] = 1 - data.pop("target")

labelled, fresh = train_test_split(data, test_size=fresh_rows, stratify=data["malignant"], random_state=seed)
train, test = train_test_split(labelled, test_size=test_fraction, stratify=labelled["malignant"], random_state=seed)

train.to_csv(os.environ["MLOPS_OUTPUT_TRAIN"], index=False)
test.to_csv(os.environ["MLOPS_OUTPUT_TEST"], index=False)
fresh.drop(columns="malignant").to_csv(os.environ["MLOPS_OUTPUT_FRESH"], index=False)
Path(os.environ["MLOPS_OUTPUT_ROWS"]).write_text(str(len(fresh)))
print(f"{len(train)} rows to train with, {len(test)} to measure with, {len(fresh)} to predict")
