# SPDX-License-Identifier: Apache-2.0
"""
The template language of a spec: Jinja expressions between ``{{`` and ``}}``, and nothing else of Jinja.

What an expression may hold is checked against an allow-list when a spec is read, and again when it is rendered. A plain
dotted name, which is what nearly all templates hold, is handled without importing Jinja.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.spec.expressions import Expressions

MAX_OUTPUT = 1 << 20
"""Characters of a rendered text; program arguments could not take more."""

_SIMPLE = re.compile(r"(?<!\{)\{\{\s*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*\}\}")
_STATEMENT = re.compile(
    r"\{%[-+]?\s*(?:if|elif|else|endif|for|endfor|set|endset|block|endblock|macro|endmacro|include|import|from|extends|raw|endraw|call|filter|with|do)\b"
)
# Words that Jinja reads as values or operators.
_NOT_NAMES = frozenset(
    (
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "not",
        "and",
        "or",
        "if",
        "else",
        "in",
        "is",
    )
)


class TemplateError(ValueError):
    """A template cannot be used: it is not in our language, or names what a run does not have."""


def as_text(value: Any) -> str:
    """
    A value as templates show it: strings as they are, everything else compact JSON.

    :raises TemplateError: if it is no JSON value
    """
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise TemplateError(
            f"a value of type {type(value).__name__} is no JSON value; expected a string, a number, a list …"
        ) from None


@lru_cache(maxsize=4096)
def references(text: str) -> tuple[tuple[str, ...], ...]:
    """
    The names that a text uses, each as its parts, in the order of the text.

    :raises TemplateError: if the text is not in our language
    """
    if _STATEMENT.search(text):
        raise TemplateError(
            "statements ('{% … %}') are not part of the template language; expected expressions ('{{ … }}') only"
        )
    if "{{" not in text:
        return ()
    names = _simple_names(text)
    return names if names is not None else _expressions().references(text)


def render(text: str, names: Mapping[str, Any]) -> str:
    """
    Render a text.

    :param names: values by name; dots look into mappings: ``{"params": {"C": 1.0}, "inputs": {"train": {"path":
        "/mlops/inputs/train"}}}``
    :raises TemplateError: if it is not in our language, a name has no value, or the result is too long
    """
    if "{{" not in text:
        return text
    if _simple_names(text) is not None:
        result = _SIMPLE.sub(lambda match: as_text(look_up(match[1].split("."), names)), text)
    else:
        result = _expressions().render(text, names)
    if len(result) > MAX_OUTPUT:
        raise TemplateError(f"the rendered text has {len(result)} characters; expected at most {MAX_OUTPUT}")
    return result


def look_up(parts: list[str], names: Mapping[str, Any]) -> Any:
    """
    The value of a dotted name.

    :raises TemplateError: if there is none
    """
    value: Any = names
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            raise TemplateError(
                f"'{'.'.join(parts)}' has no value here; where it may be absent, give it one: {{{{ {'.'.join(parts)} | default('none') }}}}"
            )
        value = value[part]
    return value


def _simple_names(text: str) -> tuple[tuple[str, ...], ...] | None:
    """The names of a text all of whose expressions are dotted names; ``None`` for any other text."""
    found = _SIMPLE.findall(text)
    if not found or text.count("{{") != len(found):
        return None
    names = tuple(tuple(name.split(".")) for name in found)
    return None if any(parts[0] in _NOT_NAMES for parts in names) else names


@lru_cache(maxsize=1)
def _expressions() -> Expressions:
    from airflow_mlops.spec.expressions import Expressions  # noqa: PLC0415 (imports Jinja)

    return Expressions()
