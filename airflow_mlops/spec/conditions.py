# SPDX-License-Identifier: Apache-2.0
"""
Conditions of gates, in CEL (Common Expression Language, https://cel.dev), evaluated by Google's own library.

A gate guards what is served, so whatever is not certain keeps it closed. CEL alone is not enough for that: a comparison with NaN is false, and
its negation true; ``a || b`` does not look at ``b``; an error of an evaluation is a value like any other. So every value that a condition
mentions has to be there and be finite before it is evaluated at all, and only the boolean ``true`` opens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cel_expr_python import cel

Path = tuple[str | int, ...]
"""A name, and keys and indexes below it."""

LONGEST = 2000
"""Characters of a condition."""

_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)", re.DOTALL)


class ConditionError(ValueError):
    """
    A text is no condition.

    :param column: where in it, from 1
    """

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class Verdict:
    """
    Whether a condition holds.

    :param condition: its text
    :param holds: whether it does, for certain
    :param values: what it looked at, by path as it is written in CEL; ``None`` for what is not there
    :param why: why it does not hold, where that is not what it says itself
    """

    condition: str
    holds: bool
    values: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True)
class Condition:
    """
    A condition that was found good.

    :param text: as it is written
    :param paths: every value that it mentions
    """

    text: str
    paths: tuple[Path, ...]
    _program: Any

    @property
    def names(self) -> frozenset[str]:
        """What it speaks of."""
        return frozenset(str(path[0]) for path in self.paths)

    def look(self, values: Mapping[str, Any]) -> Verdict:
        """
        Whether it holds for some values; whatever is missing, not finite or goes wrong closes it.

        :param values: JSON by name
        """
        found = {written(path): _at(values, path) for path in self.paths}
        shown = {path: None if value is _MISSING else value for path, value in found.items()}
        for path, value in found.items():
            if value is _MISSING:
                return Verdict(self.text, False, shown, f"there is no {path}")
            if (odd := _not_finite(value)) is not None:
                return Verdict(self.text, False, shown, f"{path} is {odd}, which is no finite number")
        from cel_expr_python import cel

        try:
            result = self._program.eval(data={name: _doubles(values[name]) for name in self.names})
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            return Verdict(self.text, False, shown, f"it cannot be evaluated: {error}")
        if result.type() != cel.Type.BOOL:
            return Verdict(self.text, False, shown, f"it is no boolean: {result.value()}")
        return Verdict(self.text, result.value() is True, shown)


def parse(text: str, names: frozenset[str]) -> Condition:
    """
    Read a condition.

    :param names: what it may speak of
    :raises ConditionError: if it is none: wrong syntax, an unknown name, or a result that is no boolean
    """
    if len(text) > LONGEST:
        raise ConditionError(f"is {len(text)} characters long; at most {LONGEST} are allowed")
    from cel_expr_python import cel

    try:
        program = _environment(names).compile(text)
    except RuntimeError as error:
        raise _told(str(error)) from None
    kind = program.return_type()
    if kind != cel.Type.BOOL:
        raise ConditionError(
            f"is {_kind(kind)}; expected what is true or false whatever the values are, such as a comparison (m.flag == true)"
        )
    paths = tuple(dict.fromkeys(_mentioned(_tree(program.serialize()), frozenset())))
    return Condition(text, paths, program)


def written(path: Path) -> str:
    """A path as CEL has it."""
    text = str(path[0])
    for part in path[1:]:
        is_name = isinstance(part, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part)
        text += f".{part}" if is_name else f"[{part!r}]"
    return text


@cache
def _environment(names: frozenset[str]) -> cel.Env:
    from cel_expr_python import cel

    # Not DOUBLE: a metric may be compared with 1 then, which is an integer.
    return cel.NewEnv(variables=dict.fromkeys(sorted(names), cel.Type.DYN))


def _told(said: str) -> ConditionError:
    """What the library says of a text, in one line, with its column."""
    found = _PLACE.search(said)
    if found is None:
        return ConditionError(said.splitlines()[0])
    message = found[3].splitlines()[0].removesuffix(" [INVALID_ARGUMENT]").removesuffix(" (in container '')")
    # The parser goes on with the names of all tokens of the language.
    message = message.partition(" expecting {")[0].replace("'<EOF>'", "the end")
    return ConditionError(message, int(found[2]))


def _kind(kind: cel.Type) -> str:
    name = str(kind.name()).lower()
    return "a value that may be anything" if name == "dyn" else f"of type {name}"


# What a compiled condition mentions. The library gives its tree as bytes alone: a `google.protobuf.Any` of a `cel.expr.CheckedExpr`
# (https://github.com/google/cel-spec/blob/master/proto/cel/expr/checked.proto), whose classes it does not bring along.

Fields = Mapping[int, list[Any]]

_VALUE, _CHECKED = 2, 4
_CONSTANT, _NAME, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 3, 4, 5, 6, 7, 8, 9
_INNER = {_SELECT: (1,), _CALL: (1, 3), _LIST: (1,)}
_INT, _STRING = 3, 6


def _fields(data: bytes) -> Fields:
    """Fields of a message by number."""
    from google.protobuf.empty_pb2 import Empty
    from google.protobuf.unknown_fields import UnknownFieldSet

    found: dict[int, list[Any]] = {}
    for field in UnknownFieldSet(Empty.FromString(data)):
        found.setdefault(field.field_number, []).append(field.data)
    return found


def _tree(serialized: bytes) -> bytes:
    checked: bytes = _fields(serialized)[_VALUE][0]
    tree: bytes = _fields(checked)[_CHECKED][0]
    return tree


def _mentioned(expression: bytes, bound: frozenset[str]) -> Iterator[Path]:
    """
    Paths of all values that an expression mentions.

    :param bound: names that stand for elements of a list here
    :raises ConditionError: if one of them is known at evaluation alone
    """
    if (path := _path(expression)) is not None:
        if path[0] not in bound:
            yield path
        return
    if _looks_up(expression):
        raise ConditionError(
            "looks up a value whose name is not written there; expected a text or a number in the brackets"
        )
    for part, names in _parts(expression):
        yield from _mentioned(part, bound | names)


def _looks_up(expression: bytes) -> bool:
    """Whether an expression takes something out of a value by a key that is not written there."""
    calls = map(_fields, _fields(expression).get(_CALL, ()))
    return any(call[2][0] == b"_[_]" and _path(call[3][0]) is not None for call in calls)


def _parts(expression: bytes) -> Iterator[tuple[bytes, frozenset[str]]]:
    """Expressions that one is made of, and the names that stand for elements of a list in them."""
    fields = _fields(expression)
    for kind, numbers in _INNER.items():
        for inner in map(_fields, fields.get(kind, ())):
            yield from ((part, frozenset()) for number in numbers for part in inner.get(number, ()))
    for struct in map(_fields, fields.get(_STRUCT, ())):
        for entry in map(_fields, struct.get(2, ())):
            yield from ((part, frozenset()) for number in (3, 4) for part in entry.get(number, ()))
    for loop in map(_fields, fields.get(_COMPREHENSION, ())):
        names = frozenset(name.decode() for number in (1, 3, 8) for name in loop.get(number, ()))
        yield loop[2][0], frozenset()
        yield from ((part, names) for number in (4, 5, 6, 7) for part in loop.get(number, ()))


def _path(expression: bytes) -> Path | None:
    """The path that an expression is; ``None`` if it is something else."""
    fields = _fields(expression)
    if _NAME in fields:
        return (_fields(fields[_NAME][0])[1][0].decode(),)
    if _SELECT in fields:
        select = _fields(fields[_SELECT][0])
        above = _path(select[1][0])
        return None if above is None else (*above, select[2][0].decode())
    if _CALL in fields:
        call = _fields(fields[_CALL][0])
        if call[2][0] == b"_[_]":
            above, key = _path(call[3][0]), _key(call[3][1])
            return None if above is None or key is None else (*above, key)
    return None


def _key(expression: bytes) -> str | int | None:
    constant = _fields(expression).get(_CONSTANT)
    if constant is None:
        return None
    value = _fields(constant[0])
    if _STRING in value:
        return str(value[_STRING][0].decode())
    if _INT not in value:
        return None
    # As a varint has it, which knows no sign.
    number = int(value[_INT][0])
    return number - (1 << 64) if number >> 63 else number


# Values

_MISSING = object()


def _at(values: Any, path: Path) -> Any:
    found = values
    for part in path:
        is_there = (
            part in found
            if isinstance(found, Mapping)
            else isinstance(found, list) and isinstance(part, int) and 0 <= part < len(found)
        )
        if not is_there:
            return _MISSING
        found = found[part]
    return found


def _not_finite(value: Any) -> Any:
    """A number in a value, however deep, that is not finite; ``None`` if all are."""
    if isinstance(value, (int, float)) and not _is_finite(value):
        return value if isinstance(value, float) else "too large"
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((odd for one in inner if (odd := _not_finite(one)) is not None), None)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _doubles(value: Any) -> Any:
    """A value whose numbers are doubles: how a number was written in JSON is not to decide what it equals."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Mapping, list)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _doubles(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_doubles(one) for one in value]
    return float(value) if _is_finite(value) else None
