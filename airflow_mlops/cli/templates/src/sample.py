"""Draw points along a line with some noise; write three quarters of them to the first file, the rest to the second."""

import csv
import os
import random
import sys

slope, noise = float(os.environ["MLOPS_PARAM_SLOPE"]), float(os.environ["MLOPS_PARAM_NOISE"])
draw = random.Random(42)
points = []
for _ in range(400):
    x = draw.uniform(0, 10)
    points.append((x, slope * x + 1 + draw.gauss(0, noise)))

for path, part in zip(sys.argv[1:], (points[:300], points[300:]), strict=True):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(part)
    print(f"wrote {len(part)} points to {path}")
