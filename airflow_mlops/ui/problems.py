# SPDX-License-Identifier: Apache-2.0
"""What a page says instead of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence


class Problem(Exception):
    """
    A request that has no other answer than words.

    :param status: HTTP status
    :param title: the same in a few words
    :param what: what is wrong
    :param hints: why that may be, or what to do
    """

    def __init__(self, status: int, title: str, what: str, hints: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.status = status
        self.title = title
        self.what = what
        self.hints = tuple(hints)
