# SPDX-License-Identifier: Apache-2.0
"""
How often a writer tries when others write at the same time. Each lost race means that somebody won it, so the bound is
reached only where very many write at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

TRIES = 40
_PAUSE, _LONGEST = 0.005, 0.25
"""Seconds."""


def tries() -> Iterator[int]:
    """Count the tries, with pauses between them that grow and are never the same for two writers."""
    for number in range(TRIES):
        if number:
            time.sleep(random.uniform(0, min(_LONGEST, _PAUSE * 2**number)))  # noqa: S311 - spreads writers, guards nothing
        yield number
