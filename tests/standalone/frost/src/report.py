# SPDX-License-Identifier: Apache-2.0
import argparse
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--winner")
parser.add_argument("--coldest", type=float)
options = parser.parse_args()
lines = [
    f"# {os.environ['MLOPS_PARAM_STATION']}",
    "",
    f"Coldest night: {options.coldest} degrees. Asked: {options.winner}.",
]
if os.environ["MLOPS_PARAM_WARN"] == "true" and options.coldest < 0:
    lines.append("Cover what is young and green.")
Path(os.environ["MLOPS_OUTPUT_REPORT"]).write_text("\n".join([*lines, ""]))
print("\n".join(lines))
