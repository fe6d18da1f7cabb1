# SPDX-License-Identifier: Apache-2.0
"""
What happens to a test whose part is not on this machine: it skips and says why, or fails where the part is required.

``MLOPS_REQUIRE=docker,s3,kubernetes,airflow`` names the parts that must be there. A continuous integration run sets it, so that a
green run cannot mean that nothing was tested.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

PARTS = ("airflow", "browser", "docker", "kubernetes", "mlflow", "s3")
VARIABLE = "MLOPS_REQUIRE"


class Unavailable(RuntimeError):
    """A part cannot be had on this machine; the text says what is missing and how to get it."""


def required_parts() -> frozenset[str]:
    """
    Return the parts that ``MLOPS_REQUIRE`` names.

    :raises ValueError: for a name that is no part, since a misspelt one would silently require nothing
    """
    names = frozenset(filter(None, (name.strip() for name in os.environ.get(VARIABLE, "").split(","))))
    if unknown := sorted(names - set(PARTS)):
        raise ValueError(
            f"{VARIABLE} names {', '.join(unknown)}; expected some of {', '.join(PARTS)}, separated by commas"
        )
    return names


def unavailable(part: str, reason: object) -> NoReturn:
    """
    Skip the test that asked for a part, or fail it if the part is required.

    :param part: one of ``PARTS``
    :param reason: what is missing and what to do about it
    """
    if part in required_parts():
        pytest.fail(f"{part} is required ({VARIABLE}) but cannot be had: {reason}", pytrace=False)
    pytest.skip(f"no {part}: {reason}")
