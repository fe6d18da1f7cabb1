# SPDX-License-Identifier: Apache-2.0
"""Words in place of what a run alone knows, where angle brackets are not allowed: names of pods, labels, keys of a store."""

from __future__ import annotations

import secrets
from typing import Any


class StandIns:
    """Words that Kubernetes and stores take for a name or a label, and that are shown as placeholders."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def word(self, what: str) -> str:
        """A word that stands for something: no other text holds it."""
        word = f"x{secrets.token_hex(8)}"
        self.show(word, what)
        return word

    def show(self, text: str, what: str) -> None:
        """Show a text that follows from such a word as what it stands for."""
        self._shown[text] = f"<{what}>"

    def shown(self, value: Any) -> Any:
        """A value as people read it, with placeholders in all its texts."""
        if isinstance(value, str):
            for text, what in sorted(self._shown.items(), key=lambda item: -len(item[0])):
                value = value.replace(text, what)
            return value
        if isinstance(value, dict):
            return {key: self.shown(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.shown(item) for item in value]
        return value
