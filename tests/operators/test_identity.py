# SPDX-License-Identifier: Apache-2.0
"""The generation of a try, from what Airflow says of it: the cases of docs/state-model.md."""

from __future__ import annotations

import pytest

from airflow_mlops.operators.identity import generation

pytestmark = pytest.mark.airflow


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
    assert generation(max_tries, retries, try_number) == expected
