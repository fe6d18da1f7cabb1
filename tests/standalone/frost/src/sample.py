# SPDX-License-Identifier: Apache-2.0
import argparse
import math
import os
import random
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--station")
parser.add_argument("--days", type=int)
options = parser.parse_args()
height = {"valley": 2.0, "hill": -1.0, "summit": -6.0}[options.station]
chance = random.Random(7)
days = [height - 5 * math.sin(math.pi * day / options.days) + chance.gauss(0, 2) for day in range(options.days)]
held_out = max(1, round(options.days * float(os.environ["MLOPS_PARAM_HELD_OUT"])))
for name, first, last in (("PAST", 0, -held_out), ("FUTURE", -held_out, None)):
    rows = [f"{day},{days[day]:.2f}" for day in range(options.days)[first:last]]
    Path(os.environ[f"MLOPS_OUTPUT_{name}"]).write_text("\n".join(["day,degrees", *rows, ""]))
Path(os.environ["MLOPS_OUTPUT_COLDEST"]).write_text(f"{min(days):.2f}")
print(f"{options.days} days of the {options.station} station, {held_out} of them held out")
