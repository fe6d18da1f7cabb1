# SPDX-License-Identifier: Apache-2.0
"""One home for all runs of these tests, as a user has one: the second run finds what the first one made."""

from __future__ import annotations

import pytest

from tests.cli.embedded.support import Runs


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Starts runs."""
    return Runs(home=tmp_path_factory.mktemp("home"), files=tmp_path_factory.mktemp("files"))
