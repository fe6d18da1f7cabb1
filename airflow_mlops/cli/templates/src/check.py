"""Measure how far a line is from points that it was not fitted to."""

import csv
import json
import os
import statistics

with open(os.environ["MLOPS_INPUT_MODEL"]) as file:
    model = json.load(file)
with open(os.environ["MLOPS_INPUT_TEST"], newline="") as file:
    points = [(float(x), float(y)) for x, y in csv.reader(file)]

squares = [(y - model["slope"] * x - model["intercept"]) ** 2 for x, y in points]
rmse = statistics.fmean(squares) ** 0.5
r2 = 1 - statistics.fmean(squares) / statistics.pvariance([y for _, y in points])
print(f"root mean squared error {rmse:.4f}, R2 {r2:.4f}")
with open(os.environ["MLOPS_OUTPUT_METRICS"], "w") as file:
    json.dump({"rmse": rmse, "r2": r2}, file)
