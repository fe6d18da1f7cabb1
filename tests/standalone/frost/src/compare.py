# SPDX-License-Identifier: Apache-2.0
import csv
import json
import os
import statistics
from pathlib import Path

with open(os.environ["MLOPS_INPUT_FUTURE"]) as file:
    rows = [(float(row["day"]), float(row["degrees"])) for row in csv.DictReader(file)]
errors = {}
for name in ("mean", "trend"):
    model = json.loads(Path(os.environ[f"MLOPS_INPUT_{name.upper()}"]).read_text())
    errors[name] = statistics.mean(abs(model["start"] + model["slope"] * day - degrees) for day, degrees in rows)
winner = min(errors, key=errors.__getitem__)
Path(os.environ["MLOPS_OUTPUT_METRICS"]).write_text(json.dumps({f"{name}_error": errors[name] for name in errors}))
Path(os.environ["MLOPS_OUTPUT_WINNER"]).write_text(winner)
print(f"{winner} is nearest: {errors[winner]:.2f} degrees off")
