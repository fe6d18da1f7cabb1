# SPDX-License-Identifier: Apache-2.0
"""Programs that lost their worker: known by the seal that each was started with, which its environment names."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def kill_programs(folder: Path) -> list[int]:
    """
    Kill every process that belongs to an attempt whose scratch folder is, or lies in, a folder; its children inherit what they are known by.

    :return: their process ids
    """
    import psutil

    killed = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("MLOPS_STEP_JSON", "").startswith(f"{folder}{os.sep}"):
                process.kill()
                killed.append(process.pid)
    return killed
