"""Make points around a line, and put some aside."""

import json
import os
import random
from pathlib import Path

share = float(os.environ["MLOPS_PARAM_SHARE"])
random.seed(int(os.environ["MLOPS_PARAM_SEED"]))
points = [(x, 3 * x + 1 + random.gauss(0, 0.5)) for x in (random.uniform(0, 4) for _ in range(200))]
held_out = int(len(points) * share)
Path(os.environ["MLOPS_OUTPUT_TEST"]).write_text(json.dumps(points[:held_out]))
Path(os.environ["MLOPS_OUTPUT_TRAIN"]).write_text(json.dumps(points[held_out:]))
Path(os.environ["MLOPS_OUTPUT_ROWS"]).write_text(str(len(points) - held_out))
