# SPDX-License-Identifier: Apache-2.0
"""Programs that lost their worker: known by the seal that each was started with, which its environment names."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def programs() -> dict[int, str]:
    """Process ids of the programs of attempts on this machine, with the path of the seal that each was started with."""
    import psutil

    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if seal := process.environ().get("MLOPS_STEP_JSON"):
                found[process.pid] = seal
    return found


def kill_programs(folder: Path) -> list[int]:
    """
    Kill every process that belongs to an attempt whose scratch folder is, or lies in, a folder; its children inherit what they are known by.

    :return: their process ids
    """
    import psutil

    killed = []
    for number, seal in programs().items():
        if seal.startswith(f"{folder}{os.sep}"):
            with suppress(psutil.Error):
                psutil.Process(number).kill()
                killed.append(number)
    return killed
