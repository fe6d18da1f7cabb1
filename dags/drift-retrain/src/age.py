# SPDX-License-Identifier: Apache-2.0
"""How long ago a model was registered, in hours: ``age.py SECONDS``, counted from 1970; 0 if there is none, which was long ago."""

import os
import sys
import time
from pathlib import Path

hours = (time.time() - float(sys.argv[1])) / 3600
Path(os.environ["MLOPS_OUTPUT_HOURS"]).write_text(f"{hours:.6f}")
print(f"the champion was registered {hours:.1f} hours ago" if float(sys.argv[1]) else "there is no champion yet")
