"""Measure how far a line is from points that it has not seen."""

import json
import os
import sys
from pathlib import Path
from statistics import fmean

model = json.loads(Path(sys.argv[1]).read_text())
points = json.loads(Path(os.environ["MLOPS_INPUT_TEST"]).read_text())
error = fmean((model["slope"] * x + model["offset"] - y) ** 2 for x, y in points) ** 0.5
Path(os.environ["MLOPS_OUTPUT_METRICS"]).write_text(json.dumps({"rmse": error}))
