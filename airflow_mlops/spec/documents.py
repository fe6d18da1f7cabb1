# SPDX-License-Identifier: Apache-2.0
"""
A YAML file as nodes that know their position.

libyaml composes the nodes, which is several times faster than PyYAML's own parser; where PyYAML was built without it,
that parser is used. Neither resolves tags: that is done by the 1.2 core schema in ``values``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.error import MarkedYAMLError
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from airflow_mlops.spec.problems import Problem, SpecError, shorten

if TYPE_CHECKING:
    from pathlib import Path

MAX_SIZE = 1 << 20
"""Bytes of a spec file: a pipeline of thousands of steps has a few hundred thousand."""

MAX_LEVELS = 1000
"""How deep brackets and lists may lie in each other: what PyYAML 6.0.4 allows, too."""

_SURELY_SHALLOW = 10_000
"""Levels that are composed without a look at them first; it would take about 25,000 to use up a stack of 8 MB."""

KEY = object()
"""Last part of a path: the key itself is meant, not its value."""

NodePath = Sequence[Any]

_UNQUOTED = re.compile(r"(?:^|[:\-,\[?])\s*\{\{")
_TEMPLATE_HINT = (
    "an unquoted '{{' starts a YAML mapping; expected quotes around the whole text, as in \"{{ params.x }}\""
)

try:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _Nodes(CParser):
        """libyaml's composer, without the resolution of tags."""

        # The composer calls these for every node: built-ins cost least.
        descend_resolver = staticmethod(operator.is_)
        ascend_resolver = staticmethod(tuple)

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)

        def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
            return None

except ImportError:

    class _Nodes(Reader, Scanner, Parser, Composer):  # type: ignore[no-redef]
        """PyYAML's composer, without the resolution of tags."""

        def __init__(self, text: str) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)
            Composer.__init__(self)

        def descend_resolver(self, current_node: Any, current_index: Any) -> None: ...

        def ascend_resolver(self) -> None: ...

        def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
            return None


def read_text(path: Path) -> str:
    """
    The text of a spec file.

    :raises SpecError: if it cannot be read, is too big or is not UTF-8
    """
    name = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(
            [
                Problem(
                    shorten(name),
                    0,
                    0,
                    f"cannot be read: {reason}; expected a spec file",
                )
            ]
        ) from None
    if len(data) > MAX_SIZE:
        raise SpecError(
            [
                Problem(
                    name,
                    0,
                    0,
                    f"is larger than {MAX_SIZE} bytes; expected a spec of at most that size",
                )
            ]
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode("utf-8-sig", "replace"))
        raise SpecError(
            [
                Problem(
                    name,
                    line,
                    column,
                    f"byte 0x{data[error.start]:02x} is not UTF-8; expected a UTF-8 text file",
                )
            ]
        ) from None


def compose(file: str, text: str) -> Node:
    """
    The root node of a document.

    :param file: name of the file, for messages
    :raises SpecError: if the text is not one YAML document
    """
    try:
        _check_depth(text)
        parser = _Nodes(text)
        try:
            root = parser.get_single_node()
        finally:
            parser.dispose()
    except MarkedYAMLError as error:
        raise SpecError([_syntax_problem(file, text, error)]) from None
    except ReaderError as error:
        raise SpecError([_character_problem(file, text, error)]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecError([Problem(file, 0, 0, shorten(f"is not YAML: {error}"))]) from None
    if root is None:
        raise SpecError(
            [
                Problem(
                    file,
                    1,
                    1,
                    "the file is empty; expected a spec that starts with 'apiVersion: mlops/v1'",
                )
            ]
        )
    return root


def _check_depth(text: str) -> None:
    """
    Refuse a text that would end the process: the composer takes the stack for each level, and PyYAML before 6.0.4 has no bound.

    Each bracket may open a level; without brackets, a level begins further to the right, or with a dash where a key began.

    :raises ComposerError: with the place
    """
    if text.count("[") + text.count("{") + 2 * max(map(len, text.split("\n"))) < _SURELY_SHALLOW:
        return
    parser, depth = _Nodes(text), 0
    try:
        while (event := parser.get_event()) is not None:
            if isinstance(event, CollectionStartEvent):
                depth += 1
                if depth > MAX_LEVELS:
                    mark: Any = event.start_mark
                    raise ComposerError(None, None, "exceeded maximum nesting depth", mark)
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
    finally:
        parser.dispose()


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _character_problem(file: str, text: str, error: ReaderError) -> Problem:
    bad = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if bad is None:
        return Problem(file, 0, 0, shorten(f"is not YAML: {error.reason}"))
    line, column = _place(text[: bad.start()])
    return Problem(
        file,
        line,
        column,
        f"character U+{ord(bad[0]):04X} is not allowed in YAML; expected printable text",
    )


def _syntax_problem(file: str, text: str, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    lines = text.splitlines()
    seen = [lines[m.line] for m in (error.problem_mark, error.context_mark) if m and m.line < len(lines)]
    what = str(error.problem or error.context or "cannot be parsed")
    if isinstance(error, ComposerError) and "document" in f"{error.context} {what}":
        return Problem(
            file,
            line,
            column,
            "a second YAML document starts here; expected one spec a file",
        )
    hint = ""
    if any(_UNQUOTED.search(item) for item in seen):
        hint = f"; {_TEMPLATE_HINT}"
    elif "'\\t'" in what or any(item.startswith("\t") for item in seen):
        hint = "; expected spaces: YAML is not indented with tabs"
    elif error.context and error.context != what:
        hint = f" ({error.context})"
    return Problem(file, line, column, shorten(f"is not YAML: {what}{hint}"))


def template_key_hint(key: Node) -> str | None:
    """What to say when a key is itself a flow mapping: somebody forgot the quotes around a template."""
    return _TEMPLATE_HINT if isinstance(key, MappingNode) and key.flow_style else None


def start(node: Node) -> tuple[int, int]:
    """Line and column of a node, counted from one."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def child(node: Node, part: Any) -> tuple[Node | None, Node] | None:
    """Key and value of an entry of a mapping, or the item of a sequence."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    elif isinstance(node, SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return None, node.value[part]
    return None


def locate(root: Node, path: NodePath) -> tuple[int, int]:
    """
    Line and column of the value at a path, or of the nearest thing above it.

    :param path: keys and indexes; ``KEY`` at the end asks for the key
    """
    node, place = root, start(root)
    for part, following in zip_longest(path, path[1:]):
        if part is KEY:
            break
        found = child(node, part)
        if found is None:
            return place
        key, node = found
        place = start(key) if key is not None and following is KEY else start(node)
    return place


def exists(root: Node, path: NodePath) -> bool:
    """Whether the document itself holds a value at a path."""
    node = root
    for part in path:
        found = child(node, part)
        if found is None:
            return False
        node = found[1]
    return True


def text_of(node: Node) -> str | None:
    """The text of a scalar."""
    return node.value if isinstance(node, ScalarNode) else None
