"""Fit a line to points by least squares."""

import csv
import json
import statistics
import sys

with open(sys.argv[1], newline="") as file:
    points = [(float(x), float(y)) for x, y in csv.reader(file)]

slope, intercept = statistics.linear_regression(*zip(*points, strict=True))
print(f"y = {slope:.4f} x + {intercept:.4f}")
with open(sys.argv[2], "w") as file:
    json.dump({"slope": slope, "intercept": intercept}, file)
