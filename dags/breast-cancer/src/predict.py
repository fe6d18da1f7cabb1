# SPDX-License-Identifier: Apache-2.0
"""Let a model judge rows that have no label."""

import argparse

import pandas
import skops.io

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="a model that skops has written")
parser.add_argument("--data", required=True, help="CSV with the features")
parser.add_argument("--predictions", required=True, help="CSV to write")
parser.add_argument("--expect-rows", required=True, type=int, help="how many rows there must be")
parser.add_argument("--made-by", required=True, help="what the model is called in the predictions")
arguments = parser.parse_args()

data = pandas.read_csv(arguments.data)
if len(data) != arguments.expect_rows:
    raise SystemExit(f"{arguments.data} has {len(data)} rows instead of {arguments.expect_rows}")
# skops loads what it knows to be harmless. Trees it wants named; the model comes from our own fit.py.
model = skops.io.load(arguments.model, trusted=["sklearn.tree._tree.Tree"])
chance = model.predict_proba(data)[:, 1]
verdict = model.predict(data) == 1
predictions = pandas.DataFrame({"chance": chance.round(4), "malignant": verdict, "model": arguments.made_by})
predictions.to_csv(arguments.predictions, index_label="row")
print(f"{verdict.sum()} of {len(verdict)} tumours look malignant to {arguments.made_by}")
