# SPDX-License-Identifier: Apache-2.0
import os

import skops.io
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

train, test = train_test_split(load_wine(as_frame=True).frame, test_size=0.3, random_state=7)
model = make_pipeline(StandardScaler(), LogisticRegression(C=float(os.environ["MLOPS_PARAM_C"])))
model.fit(train.drop(columns="target"), train["target"])
skops.io.dump(model, os.environ["MLOPS_OUTPUT_MODEL"])
test.to_csv(os.environ["MLOPS_OUTPUT_TEST"], index=False)
