# SPDX-License-Identifier: Apache-2.0
"""What the format has room for and this version does not do: refused by name, never ignored."""

from __future__ import annotations

LATER_KINDS = frozenset(("serve",))
LATER_RULES = frozenset(("foreach", "choose"))
"""Keys that make a group follow a rule."""

LATER_STEP_KEYS = LATER_RULES | frozenset(
    (
        "reuse",
        "endpoint",
        "replicas",
        "rollout",
        "smoke",
        "otherwise",
    )
)
LATER_TOP_KEYS = frozenset(("finally", "reuse"))


def comes_later(entry: object) -> str | None:
    """What a step or group asks for that makes all of it unusable in this version: its kind, or its rule."""
    if not isinstance(entry, dict):
        return None
    kind = entry.get("kind")
    if isinstance(kind, str) and kind in LATER_KINDS:
        return "kind"
    return next((rule for rule in entry if rule in LATER_RULES), None)
