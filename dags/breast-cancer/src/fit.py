# SPDX-License-Identifier: Apache-2.0
"""Train one of two candidates: ``fit.py logistic`` or ``fit.py forest``."""

import os
import sys

import pandas
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(C=float(os.environ["MLOPS_PARAM_C"]), max_iter=1000))


def forest():
    return RandomForestClassifier(
        n_estimators=int(os.environ["MLOPS_PARAM_TREES"]),
        max_depth=int(os.environ["MLOPS_PARAM_DEPTH"]),
        random_state=int(os.environ["MLOPS_PARAM_SEED"]),
    )


candidate = {"logistic": logistic, "forest": forest}[sys.argv[1]]()
train = pandas.read_csv(os.environ["MLOPS_INPUT_TRAIN"])
candidate.fit(train.drop(columns="malignant"), train["malignant"])
skops.io.dump(candidate, os.environ["MLOPS_OUTPUT_MODEL"])
print(f"trained on {len(train)} rows: {candidate}")
