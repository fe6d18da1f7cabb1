# SPDX-License-Identifier: Apache-2.0
"""A model that answers when a test says so. It is loaded by the server from a pickle, with nothing but this module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


class HeldModel:
    """
    An estimator that takes rows of one number. It answers 0 at once; for another number it writes the file ``began-<number>`` and waits for the file
    ``released``; below 0 it raises.

    :param folder: where the files are
    """

    n_features_in_ = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def predict(self, rows: Any) -> list[float]:
        """The numbers themselves."""
        values = [float(row[0]) for row in rows]
        for value in values:
            if value < 0:
                raise RuntimeError("the secret of the model")
            if value > 0:
                (self.folder / f"began-{value:g}").touch()
                while not (self.folder / "released").exists():
                    time.sleep(0.01)
        return values


def _when(file: Path) -> HeldModel:
    while not file.exists():
        time.sleep(0.01)
    return HeldModel(file.parent)


class LoadsLate:
    """
    Its pickle becomes a :class:`HeldModel` once a file is there.

    :param file: the file
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return _when, (self.file,)
