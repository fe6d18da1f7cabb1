# SPDX-License-Identifier: Apache-2.0
"""Keep the better of several models: the larger metric wins; of equals the one named first; what is no number never."""

import argparse
import json
import math
import os
import shutil
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--by", required=True, help="the metric to compare; larger is better")
parser.add_argument("names", nargs="+", help="inputs that hold models; the metrics of NAME are the input NAME_metrics")
arguments = parser.parse_args()


def score(name):
    metrics = json.loads(Path(os.environ[f"MLOPS_INPUT_{name.upper()}_METRICS"]).read_text())
    return metrics.get(arguments.by)


scores = {name: score(name) for name in arguments.names}
able = [name for name in arguments.names if isinstance(scores[name], (int, float)) and math.isfinite(scores[name])]
if not able:
    raise SystemExit(f"no candidate has a usable {arguments.by!r}: {scores}")
winner = max(able, key=lambda name: scores[name])  # max() keeps the first of equals

shutil.copy(os.environ[f"MLOPS_INPUT_{winner.upper()}"], os.environ["MLOPS_OUTPUT_MODEL"])
shutil.copy(os.environ[f"MLOPS_INPUT_{winner.upper()}_METRICS"], os.environ["MLOPS_OUTPUT_METRICS"])
Path(os.environ["MLOPS_OUTPUT_WINNER"]).write_text(winner)
print(f"{winner} wins by {arguments.by}: {scores}")
