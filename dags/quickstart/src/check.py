# SPDX-License-Identifier: Apache-2.0
import json
import os

import pandas
import skops.io

test = pandas.read_csv(os.environ["MLOPS_INPUT_TEST"])
model = skops.io.load(os.environ["MLOPS_INPUT_MODEL"])
with open(os.environ["MLOPS_OUTPUT_METRICS"], "w") as file:
    json.dump({"accuracy": model.score(test.drop(columns="target"), test["target"])}, file)
