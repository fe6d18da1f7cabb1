# SPDX-License-Identifier: Apache-2.0
"""
What a compiled condition is made of: the values that it mentions, and what it computes of them.

CEL's library gives the tree of a compiled expression as bytes alone: a ``google.protobuf.Any`` of a ``cel.expr.CheckedExpr``
(https://github.com/google/cel-spec/blob/master/proto/cel/expr/checked.proto), whose classes it does not bring along. They are read by the
numbers of their fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""A name, and keys and indexes below it."""

_ARITHMETIC = frozenset(("_+_", "_-_", "_*_", "_/_", "_%_"))

Fields = Mapping[int, list[Any]]

_EXPRESSION = 4
_CONSTANT, _NAME, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 3, 4, 5, 6, 7, 8, 9
_INNER = {_SELECT: (1,), _CALL: (1, 3), _LIST: (1,)}
_INT, _STRING = 3, 6
_ONLY_ASKED = 3
"""In a selection: whether it is ``has(…)``."""

_LOGIC = frozenset(("_&&_", "_||_", "!_", "_?_:_"))
"""What takes truth values alone; each of them is looked at by itself."""

_EQUALITY = frozenset(("_==_", "_!=_", "@in"))
_IN_LOOPS = _EQUALITY | {
    "_&&_",
    "!_",
    "_?_:_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "startsWith",
    "endsWith",
    "@not_strictly_false",
}
"""What may be asked of each element of a list: nothing that hides an error, grows, or takes long."""


@dataclass(frozen=True)
class Part:
    """
    A part of an expression that is evaluated by itself before the whole.

    :param what: ``value``: it must be no error, and finite if it is a number; ``number``: it must be a finite number; ``list``: a list with elements;
        ``alike``: all the ``others`` must be of one kind
    """

    what: str
    expression: bytes
    others: tuple[bytes, ...] = ()


class ConditionError(ValueError):
    """
    A text is no condition.

    :param column: where in it, from 1
    """

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.column = column


def tree_of(serialized: bytes) -> bytes:
    """The root of a compiled expression."""
    expression: bytes = _fields(_checked(serialized))[_EXPRESSION][0]
    return expression


def with_root(serialized: bytes, expression: bytes) -> bytes:
    """A part of a compiled expression as a compiled expression of its own."""
    from google.protobuf.any_pb2 import Any as AnyMessage

    whole = AnyMessage.FromString(serialized)
    parts = [(number, data) for number, data in _items(whole.value) if number != _EXPRESSION]
    whole.value = b"".join(_encoded(number, data) for number, data in [*parts, (_EXPRESSION, expression)])
    return bytes(whole.SerializeToString())


def mentioned(expression: bytes, bound: frozenset[str] = frozenset()) -> Iterator[Path]:
    """
    Paths of all values that an expression mentions.

    :param bound: names that stand for elements of a list here
    :raises ConditionError: if one of them is known at evaluation alone
    """
    if (path := path_of(expression)) is not None:
        if path[0] not in bound:
            yield path
        return
    if _looks_up(expression):
        raise ConditionError(
            "looks up a value whose name is not written there; expected a text or a number in the brackets"
        )
    for part, names in _parts(expression):
        yield from mentioned(part, bound | names)


def parts_of(expression: bytes) -> Iterator[Part]:
    """
    What an expression is computed from, each part of which must be certain for the whole to be: ``a || b`` does not look at ``b``, and hides its
    errors; a comparison with NaN is false, and its negation true.

    :raises ConditionError: if a part cannot be looked at by itself
    """
    if path_of(expression) is not None:
        return
    fields = _fields(expression)
    for loop in map(_fields, fields.get(_COMPREHENSION, ())):
        yield from parts_of(loop[2][0])
        yield Part("list", loop[2][0])
        bound = frozenset(name.decode() for number in (1, 3, 8) for name in loop.get(number, ()))
        # What it begins with and what it ends as are the macro's own.
        for body in (part for number in (5, 6) for part in loop.get(number, ())):
            yield from _parts_in_loop(body, bound)
        return
    # From the inside out: what is told is the innermost thing that went wrong.
    for part, _ in _parts(expression):
        yield from parts_of(part)
    for select in map(_fields, fields.get(_SELECT, ())):
        if select.get(_ONLY_ASKED):
            raise ConditionError(
                "asks has(…) of something that has no name; expected it of an input, such as has(m.auc)"
            )
        yield Part("value", expression)
    for call in map(_fields, fields.get(_CALL, ())):
        function = call[2][0].decode()
        _check_numbers(function, call)
        if function in _EQUALITY:
            yield Part("alike", expression, tuple(call.get(3, ())))
        if function not in _LOGIC:
            yield Part("value", expression)


def _parts_in_loop(expression: bytes, bound: frozenset[str]) -> Iterator[Part]:
    """What is asked of each element of a list. Of the elements themselves nothing can be looked at before."""
    if (path := path_of(expression)) is not None:
        if len(path) > 1 and path[0] in bound:
            raise ConditionError(f"looks into the elements of a list ({path[-1]}); expected a list of numbers or texts")
        return
    fields = _fields(expression)
    if _COMPREHENSION in fields:
        raise ConditionError("goes through a list for each element of another one; expected one list at a time")
    if _CALL in fields:
        yield from _call_in_loop(expression, _fields(fields[_CALL][0]), bound)
        return
    if fields.keys() & {_LIST, _STRUCT, _SELECT}:
        raise ConditionError("makes a value for each element of a list; expected comparisons")


def _call_in_loop(expression: bytes, call: Fields, bound: frozenset[str]) -> Iterator[Part]:
    function = call[2][0].decode()
    if function in _ARITHMETIC and not bound & _names(expression):
        _check_numbers(function, call)
        yield Part("number", expression)
        yield from parts_of(expression)
        return
    is_step = _is_step_of_loop(call, bound)
    if not is_step and function not in _IN_LOOPS:
        raise ConditionError(
            f"asks {function.strip('_')} of each element of a list; expected comparisons, joined by &&, and what is computed with "
            "elements to be computed in the step that makes the list"
        )
    for part, _ in _parts(expression):
        yield from (_found_by_loop if is_step and function == "_+_" else _parts_in_loop)(part, bound)


def _found_by_loop(expression: bytes, bound: frozenset[str]) -> Iterator[Part]:
    """What ``map`` and ``filter`` add to what they have found: a list of one."""
    inner = [part for part, _ in _parts(expression)] if _LIST in _fields(expression) else [expression]
    for part in inner:
        yield from _parts_in_loop(part, bound)


def path_of(expression: bytes) -> Path | None:
    """The path that an expression is; ``None`` if it is something else."""
    fields = _fields(expression)
    if _NAME in fields:
        return (_fields(fields[_NAME][0])[1][0].decode(),)
    if _SELECT in fields:
        select = _fields(fields[_SELECT][0])
        above = path_of(select[1][0])
        return None if above is None else (*above, select[2][0].decode())
    if _CALL in fields:
        call = _fields(fields[_CALL][0])
        if call[2][0] == b"_[_]":
            above, key = path_of(call[3][0]), _key(call[3][1])
            return None if above is None or key is None else (*above, key)
    return None


def function_of(expression: bytes) -> str:
    """What an expression is a call of; empty if it is none."""
    calls = _fields(expression).get(_CALL)
    return str(_fields(calls[0])[2][0].decode()) if calls else ""


def _check_numbers(function: str, call: Fields) -> None:
    """CEL does not compute with a double and an integer, and values are doubles, however they were written."""
    arguments = call.get(3, [])
    if function not in _ARITHMETIC or not any(map(_is_double, arguments)):
        return
    if function == "_%_":
        raise ConditionError(
            "computes a remainder, which numbers with a point have none of; expected int(…) around both"
        )
    for number in filter(None, map(_integer, arguments)):
        raise ConditionError(
            f"computes with {number}, which is an integer, and a value that is not; expected {number}.0"
        )


def _is_double(expression: bytes) -> bool:
    """Whether an expression is a value that a condition is given, or computed from one."""
    if path_of(expression) is not None:
        return True
    calls = [_fields(call) for call in _fields(expression).get(_CALL, ())]
    return any(call[2][0].decode() in _ARITHMETIC and any(map(_is_double, call.get(3, []))) for call in calls)


def _integer(expression: bytes) -> str:
    """An integer that is written in a condition; empty for everything else."""
    key = _key(expression)
    return str(key) if isinstance(key, int) else ""


def _is_step_of_loop(call: Fields, bound: frozenset[str]) -> bool:
    """Whether it is how a loop goes on: what it has found so far, and one more."""
    is_joined = call[2][0] in (b"_+_", b"_||_", b"_&&_") and call.get(3)
    path = path_of(call[3][0]) if is_joined else None
    return path is not None and len(path) == 1 and path[0] in bound and str(path[0]).startswith(("@", "__"))


def _names(expression: bytes) -> set[str]:
    """All names in an expression, those of elements of a list as well."""
    if (path := path_of(expression)) is not None:
        return {str(path[0])}
    return {name for part, _ in _parts(expression) for name in _names(part)}


def _looks_up(expression: bytes) -> bool:
    """Whether an expression takes something out of a value by a key that is not written there."""
    calls = map(_fields, _fields(expression).get(_CALL, ()))
    return any(call[2][0] == b"_[_]" and path_of(call[3][0]) is not None for call in calls)


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


def _checked(serialized: bytes) -> bytes:
    from google.protobuf.any_pb2 import Any as AnyMessage

    return bytes(AnyMessage.FromString(serialized).value)


def _fields(data: bytes) -> Fields:
    """Fields of a message by number."""
    found: dict[int, list[Any]] = {}
    for number, value in _items(data):
        found.setdefault(number, []).append(value)
    return found


def _items(data: bytes) -> Iterator[tuple[int, Any]]:
    from google.protobuf.empty_pb2 import Empty
    from google.protobuf.unknown_fields import UnknownFieldSet

    for field in UnknownFieldSet(Empty.FromString(data)):
        yield field.field_number, field.data


def _encoded(number: int, data: bytes) -> bytes:
    """A field that has a length (https://protobuf.dev/programming-guides/encoding/): all of a ``CheckedExpr`` have."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
