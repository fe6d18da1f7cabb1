# SPDX-License-Identifier: Apache-2.0
"""Airflow's numbers alone: the cases of ``docs/state-model.md``. The whole rule is replayed by ``tests/state_model``."""

from __future__ import annotations

import pytest

from airflow_mlops.artifacts.generations import first_try


@pytest.mark.parametrize(
    ("max_tries", "retries", "try_number", "expected"),
    [
        (2, 2, 1, 1),
        (2, 2, 3, 1),  # a retry keeps it
        (3, 2, 2, 2),  # cleared after one try
        (5, 2, 4, 4),  # cleared after three
        (0, 0, 1, 1),
        (1, 3, 2, 2),  # retries edited in between: the sum says -1, so the try begins a generation of its own
    ],
)
def test_a_retry_keeps_the_generation_and_a_clear_begins_one(
    max_tries: int, retries: int, try_number: int, expected: int
) -> None:
    assert first_try(max_tries, retries, try_number) == expected
