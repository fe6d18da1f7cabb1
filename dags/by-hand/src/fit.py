"""Fit a line, its slope held down by a penalty."""

import json
import os
from pathlib import Path
from statistics import fmean

points = json.loads(Path(os.environ["MLOPS_INPUT_TRAIN"]).read_text())
mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / (
    sum((x - mean_x) ** 2 for x, _ in points) + float(os.environ["PENALTY"])
)
Path(os.environ["MLOPS_OUTPUT_MODEL"]).write_text(json.dumps({"slope": slope, "offset": mean_y - slope * mean_x}))
Path(os.environ["MLOPS_OUTPUT_SLOPE"]).write_text(str(slope))
