# SPDX-License-Identifier: Apache-2.0
"""Train on the rows that drifted. What the model was trained on lies beside it, so that the next ones are compared with that."""

import os
from pathlib import Path

import pandas
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows = pandas.read_csv(os.environ["MLOPS_INPUT_ROWS"])
train, test = train_test_split(rows, test_size=0.25, stratify=rows["malignant"], random_state=0)
model = make_pipeline(StandardScaler(), LogisticRegression(C=float(os.environ["MLOPS_PARAM_C"]), max_iter=1000))
model.fit(train.drop(columns="malignant"), train["malignant"])

folder = Path(os.environ["MLOPS_OUTPUT_MODEL"])
folder.mkdir()
skops.io.dump(model, folder / "model.skops")
train.to_csv(folder / "reference.csv", index=False)
test.to_csv(os.environ["MLOPS_OUTPUT_TEST"], index=False)
print(f"trained on {len(train)} rows, {len(test)} are left to measure with")
