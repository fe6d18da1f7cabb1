# SPDX-License-Identifier: Apache-2.0
"""
Plain data from nodes, by the YAML 1.2 core schema.

``no`` is a string and ``1e-4`` a number. What the core schema lets through and a spec does not want is a problem with a
position: duplicate keys, keys that are no strings, tags, numbers that JSON cannot hold, and documents that alias
themselves into gigabytes.
"""

from __future__ import annotations

import math
import re
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from airflow_mlops.spec.documents import start, template_key_hint
from airflow_mlops.spec.forms import cut, fits_64_bits
from airflow_mlops.spec.problems import Problem, SpecError

MAX_DEPTH = 50
MAX_NODES = 200_000
"""Values of a document with all aliases expanded: a step has some thirty."""

_MAX_DIGITS = 300
_NAMED: dict[str, Any] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)|0o(?P<oct>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<special>[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
)
# Most scalars are words: one look at the first character tells that they are no number, boolean or null.
_MAYBE_TYPED = frozenset(("", "~", *"ntfNTF+-.0123456789"))


class Plain:
    """
    Turns nodes into plain data and keeps the problems met on the way.

    :param file: name of the file, for messages
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._nodes = 0

    def convert(self, node: Node, depth: int = 0) -> Any:
        """
        The data of a node.

        :raises SpecError: if it is nested too deeply or expands to too many values, which no reader should go on with
        """
        if node.tag is not None:
            self._problem(
                node,
                f"tag {cut(node.tag)} is refused; expected plain YAML without tags",
            )
        if type(node) is ScalarNode:
            return self._scalar(node)
        if depth >= MAX_DEPTH:
            self._stop(
                node,
                f"is nested deeper than {MAX_DEPTH} levels, or an alias contains itself; expected a flatter document",
            )
        self._nodes += len(node.value)
        if self._nodes > MAX_NODES:
            self._stop(
                node,
                f"the document expands to more than {MAX_NODES} values; expected fewer steps or fewer aliases",
            )
        if type(node) is MappingNode:
            return self._mapping(node, depth)
        return [
            item.value
            if type(item) is ScalarNode and item.tag is None and (item.style or item.value[:1] not in _MAYBE_TYPED)
            else self.convert(item, depth + 1)
            for item in node.value
        ]

    def _mapping(self, node: MappingNode, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        maybe_typed = _MAYBE_TYPED
        for key_node, value_node in node.value:
            key = key_node.value
            if (
                type(key_node) is not ScalarNode
                or key_node.tag is not None
                or (not key_node.style and key[:1] in maybe_typed)
            ):
                if not self._good_key(key_node, node):
                    continue
            elif key == "<<" and not key_node.style:
                self._merge_keys(node)
                return self._mapping(node, depth)
            if key in result:
                self._problem(
                    key_node,
                    f"key {cut(key)} is given twice"
                    f"; expected each key once; the first is on line {self._first(node, key)}",
                )
                continue
            if (
                type(value_node) is ScalarNode
                and value_node.tag is None
                and (value_node.style or value_node.value[:1] not in maybe_typed)
            ):
                result[key] = value_node.value
            else:
                result[key] = self.convert(value_node, depth + 1)
        return result

    def _good_key(self, key: Node, mapping: MappingNode) -> bool:
        if key.tag is not None:
            self._problem(key, f"tag {cut(key.tag)} is refused; expected plain YAML without tags")
        if type(key) is not ScalarNode:
            what = "a mapping" if isinstance(key, MappingNode) else "a list"
            hint = template_key_hint(key)
            self._problem(
                mapping if hint else key,
                hint or f"{what} is used as a key; expected a string",
            )
            return False
        if not isinstance(self._scalar(key), str):
            self._problem(
                key,
                f"key {cut(key.value)} is not a string; expected a string; did you mean '\"{cut(key.value)[1:-1]}\"'?",
            )
            return False
        return True

    def _merge_keys(self, node: MappingNode) -> None:
        """Put the entries that ``<<`` stands for in its place, once and for all readers of the node."""
        own = {key.value for key, _ in node.value if key.value != "<<" and isinstance(key.value, str)}
        pairs: list[tuple[Node, Node]] = []
        for key, value in node.value:
            if key.value != "<<" or key.style:
                pairs.append((key, value))
                continue
            for source in value.value if type(value) is SequenceNode else (value,):
                if type(source) is not MappingNode:
                    self._problem(
                        source,
                        "a merge ('<<') takes a mapping or a list of mappings; expected an alias such as '*common'",
                    )
                    continue
                if any(inner.value == "<<" and not inner.style for inner, _ in source.value):
                    self._problem(
                        source,
                        "a merge ('<<') of a mapping that itself merges is refused; expected the keys written out",
                    )
                    continue
                fresh = [
                    pair for pair in source.value if not isinstance(pair[0].value, str) or pair[0].value not in own
                ]
                own.update(pair[0].value for pair in fresh if isinstance(pair[0].value, str))
                pairs.extend(fresh)
        node.value = pairs

    def _scalar(self, node: ScalarNode) -> Any:
        text: str = node.value
        if node.style or text[:1] not in _MAYBE_TYPED:
            return text
        if text in _NAMED:
            return _NAMED[text]
        match = _NUMBER.fullmatch(text)
        if match is None:
            return text
        if len(text) > _MAX_DIGITS or match["special"]:
            self._problem(
                node,
                f"{cut(text)} is no number that JSON can hold; expected a finite one, or quotes if a string is meant",
            )
            return 0
        return self._float(node, text) if match["float"] else self._integer(node, match)

    def _integer(self, node: ScalarNode, match: re.Match[str]) -> int:
        digits, base = (match["int"], 10) if match["int"] else (match["oct"], 8) if match["oct"] else (match["hex"], 16)
        value = int(digits, base)
        if not fits_64_bits(value):
            self._problem(
                node,
                f"{cut(match[0])} does not fit into 64 bits; expected a smaller integer, or quotes if a string is meant",
            )
            return 0
        return value

    def _float(self, node: ScalarNode, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            self._problem(
                node,
                f"{cut(text)} is no number that JSON can hold; expected a finite one, or quotes if a string is meant",
            )
            return 0.0
        return value

    def _first(self, node: MappingNode, key: str) -> int:
        return next(start(item)[0] for item, _ in node.value if item.value == key)

    def _problem(self, node: Node, message: str) -> None:
        self.problems.append(Problem(self.file, *start(node), message))

    def _stop(self, node: Node, message: str) -> None:
        self._problem(node, message)
        raise SpecError(self.problems)
