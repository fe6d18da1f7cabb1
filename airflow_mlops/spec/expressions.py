# SPDX-License-Identifier: Apache-2.0
"""
Templates that are more than a dotted name, by a sandboxed Jinja whose syntax tree is checked first.

No calls, no statements, no attributes of Python objects: a name looks into mappings and lists only. What could make
much out of little (powers, repetition, formatting, chained replacements) is refused or capped. Loaded only by
``templates``, on first use.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import (
    StrictUndefined,
    Template,
    Undefined,
    UndefinedError,
    nodes,
)
from jinja2 import (
    TemplateError as JinjaError,
)
from jinja2.sandbox import SandboxedEnvironment

from airflow_mlops.spec.problems import did_you_mean, one_of
from airflow_mlops.spec.templates import MAX_OUTPUT, TemplateError, as_text

MAX_NODES = 200
"""Syntax nodes of one template."""

_MAX_VALUE = 10**300

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const,
    nodes.Filter, nodes.Test, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Add,
    nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat, nodes.List,
)  # fmt: skip
_WORDS: dict[type[nodes.Node], str] = {
    nodes.Call: "a call",
    nodes.Pow: "a power ('**')",
    nodes.Slice: "a slice",
    nodes.Dict: "a mapping",
    nodes.Tuple: "a tuple",
}
# Characters of a private-use area: blocks and comments are no part of the language, so nothing that people write may
# start one.
_NEVER = ("\ue0f0\ue0f1", "\ue0f0\ue0f2", "\ue0f0\ue0f3", "\ue0f0\ue0f4")
_CARRIAGE_RETURN = "\ue0f5"


def _text(value: Any) -> str:
    # A missing value says itself what is missing.
    return str(value) if isinstance(value, Undefined) else as_text(value)


def _bounded(text: str) -> str:
    if len(text) > MAX_OUTPUT:
        raise TemplateError(f"a value grows beyond {MAX_OUTPUT} characters")
    return text


def _replace(value: Any, old: str, new: str) -> str:
    text, old, new = _text(value), _text(old), _text(new)
    if not old:
        raise TemplateError("'replace' takes a text that is not empty")
    if len(text) + text.count(old) * len(new) > MAX_OUTPUT:
        raise TemplateError(f"a value grows beyond {MAX_OUTPUT} characters")
    return text.replace(old, new)


def _join(value: Any, separator: str = "") -> str:
    if not isinstance(value, list):
        raise TemplateError("'join' takes a list")
    separator = _text(separator)
    if len(value) * len(separator) > MAX_OUTPUT:
        raise TemplateError(f"a value grows beyond {MAX_OUTPUT} characters")
    return _bounded(separator.join(_text(item) for item in value))


def _default(value: Any, default: Any = "", boolean: bool = False) -> Any:
    return default if isinstance(value, Undefined) or (boolean and not value) else value


def _number(value: Any) -> int | float:
    try:
        return value if isinstance(value, (int, float)) else float(_bounded(value)[:400])
    except (TypeError, ValueError):
        raise TemplateError("a filter takes a number") from None


def _int(value: Any) -> int:
    try:
        return int(value[:300]) if isinstance(value, str) else int(_number(value))
    except (ValueError, OverflowError):
        return int(_number(value))


def _round(value: Any, digits: int = 0) -> int | float:
    if not isinstance(digits, int) or not -300 < digits < 300:  # noqa: PLR2004
        raise TemplateError("'round' takes a number of digits")
    return round(_number(value), digits) if digits else round(_number(value))


def _length(value: Any) -> int:
    if not isinstance(value, (str, list, Mapping)):
        raise TemplateError("'length' takes a string, a list or a mapping")
    return len(value)


def _tojson(value: Any) -> str:
    return _text([value])[1:-1]


FILTERS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "float": lambda value: float(_number(value)),
    "int": _int,
    "join": _join,
    "length": _length,
    "lower": lambda value: _text(value).lower(),
    "replace": _replace,
    "round": _round,
    "tojson": _tojson,
    "trim": lambda value: _text(value).strip(),
    "upper": lambda value: _text(value).upper(),
}
TESTS: dict[str, Callable[..., Any]] = {
    "defined": lambda value: not isinstance(value, Undefined),
    "none": lambda value: value is None,
}


class _Environment(SandboxedEnvironment):
    """Jinja that sees mappings and lists where it would see Python objects."""

    intercepted_binops = frozenset(("*", "%", "+"))

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, Mapping) and isinstance(argument, str) and argument in obj:
            return obj[argument]
        if isinstance(obj, list) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        return self.undefined(hint=f"{as_text(argument)!r} is not there", name=str(argument))

    def call_binop(self, context: Any, operator_: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(side, (int, float)) and abs(side) < _MAX_VALUE for side in (left, right))
        if operator_ == "+" and (numbers or (type(left) is type(right) and isinstance(left, (str, list)))):
            return left + right
        if not numbers:
            raise TemplateError(
                f"'{operator_}' takes two numbers" + (", two strings or two lists" if operator_ == "+" else "")
            )
        return (operator.mul if operator_ == "*" else operator.mod)(left, right)


class Expressions:
    """Jinja, cut down to the language of a spec."""

    def __init__(self) -> None:
        self._environment = _Environment(
            block_start_string=_NEVER[0],
            block_end_string=_NEVER[1],
            comment_start_string=_NEVER[2],
            comment_end_string=_NEVER[3],
            undefined=StrictUndefined,
            finalize=_text,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,
        )
        self._environment.filters = dict(FILTERS)
        self._environment.tests = dict(TESTS)
        self._environment.globals = {}
        self._compile = lru_cache(maxsize=512)(self._checked)

    def references(self, text: str) -> tuple[tuple[str, ...], ...]:
        """See :func:`airflow_mlops.spec.templates.references`."""
        tree = self._parse(text)
        self._check(tree)
        found: list[tuple[str, ...]] = []
        _collect(tree, found)
        return tuple(dict.fromkeys(found))

    def render(self, text: str, names: Mapping[str, Any]) -> str:
        """See :func:`airflow_mlops.spec.templates.render`."""
        try:
            return self._compile(text).render(names).replace(_CARRIAGE_RETURN, "\r")
        except UndefinedError as error:
            raise TemplateError(f"{_cut(text)}: {error.message or 'a name has no value here'}") from None
        except TemplateError as error:
            raise TemplateError(f"{_cut(text)}: {error}") from None
        except (
            JinjaError,
            ArithmeticError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            raise TemplateError(f"{_cut(text)} cannot be rendered: {error}") from None

    def _checked(self, text: str) -> Template:
        self._check(self._parse(text))
        return self._environment.from_string(text.replace("\r", _CARRIAGE_RETURN))

    def _parse(self, text: str) -> nodes.Template:
        if any(mark in text for mark in (*_NEVER, _CARRIAGE_RETURN)):
            raise TemplateError(f"{_cut(text)} holds characters of the private-use area, which no template may hold")
        try:
            return self._environment.parse(text)
        except (JinjaError, RecursionError, ValueError, MemoryError) as error:
            hint = "; a literal '{{' is written '{{ \"{{\" }}'" if text.count("{{") != text.count("}}") else ""
            raise TemplateError(f"{_cut(text)} is no template: {error}{hint}") from None

    def _check(self, tree: nodes.Template) -> None:
        pending: list[nodes.Node] = [tree]
        seen = 0
        while pending:
            node = pending.pop()
            seen += 1
            if seen > MAX_NODES:
                raise TemplateError(f"the template has more than {MAX_NODES} parts; expected a shorter one")
            if not isinstance(node, _ALLOWED):
                what = _WORDS.get(type(node), f"'{type(node).__name__.lower()}'")
                raise TemplateError(
                    f"{what} is not part of the template language; expected names, operators and filters"
                )
            if isinstance(node, (nodes.Filter, nodes.Test)):
                known = FILTERS if isinstance(node, nodes.Filter) else TESTS
                if node.name not in known:
                    word = "filter" if isinstance(node, nodes.Filter) else "test"
                    raise TemplateError(
                        f"unknown {word} '{node.name}'; expected {one_of(known)}{did_you_mean(node.name, known)}"
                    )
                if node.dyn_args or node.dyn_kwargs:
                    raise TemplateError(
                        "'*' before an argument is not part of the template language; expected plain arguments"
                    )
                node_arguments = [keyword.value for keyword in node.kwargs]
                pending.extend([*([node.node] if node.node else ()), *node.args, *node_arguments])
            else:
                pending.extend(node.iter_child_nodes())


def _collect(node: nodes.Node, found: list[tuple[str, ...]]) -> None:
    if isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
        chain: list[str] = []
        current: nodes.Node = node
        while isinstance(current, (nodes.Getattr, nodes.Getitem)):
            if isinstance(current, nodes.Getattr):
                chain.append(current.attr)
            elif isinstance(current.arg, nodes.Const) and isinstance(current.arg.value, (str, int)):
                chain.append(str(current.arg.value))
            else:
                raise TemplateError("an index is a literal string or number; expected one such as 'params.grid[0]'")
            current = current.node
        if isinstance(current, nodes.Name):
            found.append((current.name, *reversed(chain)))
            return
    for child in node.iter_child_nodes():
        _collect(child, found)


def _cut(text: str) -> str:
    return f"'{text[:80]}…'" if len(text) > 80 else f"'{text}'"  # noqa: PLR2004
