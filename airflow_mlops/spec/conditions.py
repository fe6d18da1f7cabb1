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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.cel_tree import ConditionError, Part, Path, function_of, mentioned, parts_of, tree_of, with_root

if TYPE_CHECKING:
    from cel_expr_python import cel

LONGEST = 2000
"""Characters of a condition."""

_CALLED = {
    "_[_]": "a value",
    **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"), "a comparison"),
    "_+_": "a sum",
    "_-_": "a difference",
    "-_": "a negation",
    "_*_": "a product",
    "_/_": "a quotient",
    "_%_": "a remainder",
}

_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)", re.DOTALL)


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
    _looks: tuple[_Look, ...]

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
            if _has_nul(value):
                return Verdict(self.text, False, shown, f"{path} holds a NUL character, at which CEL ends a text")
        known = {name: _doubles(values[name]) for name in self.names}
        for look in self._looks:
            if why := look.uncertain(known):
                return Verdict(self.text, False, shown, why)
        return self._judged(known, shown)

    def _judged(self, known: Mapping[str, Any], shown: Mapping[str, Any]) -> Verdict:
        from cel_expr_python import cel

        result = _evaluated(self._program, known)
        if isinstance(result, str):
            return Verdict(self.text, False, shown, f"it cannot be evaluated: {result}")
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
    serialized = program.serialize()
    tree = tree_of(serialized)
    paths = tuple(dict.fromkeys(mentioned(tree)))
    return Condition(text, paths, program, tuple(_look_of(part, serialized, names) for part in parts_of(tree)))


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
    if "no matching overload" in message and "int" in message and "double" in message:
        message += "; expected all numbers of a calculation and what it is compared with to have a point, such as 2.0"
    return ConditionError(message, int(found[2]))


def _kind(kind: cel.Type) -> str:
    name = str(kind.name()).lower()
    return "a value that may be anything" if name == "dyn" else f"of type {name}"


def _evaluated(program: Any, known: Mapping[str, Any]) -> Any:
    """What an expression is; as text, why it is nothing."""
    try:
        return program.eval(data=dict(known))
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        return str(error)


@dataclass(frozen=True)
class _Look:
    """A part of a condition that is looked at by itself."""

    part: Part
    called: str
    programs: tuple[Any, ...]

    def uncertain(self, known: Mapping[str, Any]) -> str:
        """Why it is no ground to open a gate; empty if it is one."""
        from cel_expr_python import cel

        found = []
        for program in self.programs:
            result = _evaluated(program, known)
            if isinstance(result, str) or result.type() == cel.Type.ERROR:
                return (
                    f"{self.called} in it cannot be evaluated: {result if isinstance(result, str) else result.value()}"
                )
            found.append(result)
        return self._odd(found)

    def _odd(self, found: list[Any]) -> str:
        value = found[0].value()
        if isinstance(value, float) and not math.isfinite(value):
            return f"{self.called} in it is {value}, which is no finite number"
        if self.part.what == "number" and not isinstance(value, (int, float)):
            return f"{self.called} in it is no number"
        if self.part.what == "list" and not len(value):
            return "it goes through a list that is empty"
        if self.part.what == "alike" and len(kinds := {kind for one in found for kind in _kinds(one)}) > 1:
            return f"it compares {' with '.join(sorted(kinds))}"
        return ""


def _look_of(part: Part, serialized: bytes, names: frozenset[str]) -> _Look:
    environment = _environment(names)
    expressions = part.others or (part.expression,)
    function = function_of(part.expression)
    programs = tuple(environment.deserialize(with_root(serialized, one)) for one in expressions)
    return _Look(part, _CALLED.get(function, function or "a value"), programs)


def _kinds(result: Any) -> set[str]:
    """Of what kind a value is; of a list, of what its elements are, since one of them is compared."""
    from cel_expr_python import cel

    value = result.value()
    if isinstance(value, bool):
        return {"true or false"}
    if isinstance(value, (int, float)):
        return {"a number"}
    if isinstance(value, (str, bytes)):
        return {"a text"}
    if value is None:
        return {"null"}
    if result.type() == cel.Type.LIST:
        return {kind for one in value for kind in _kinds(one)}
    return set()


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


def _has_nul(value: Any) -> bool:
    """Whether there is a NUL in a text of a value, however deep."""
    if isinstance(value, str):
        return "\0" in value
    inner = (*value, *value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(_has_nul(one) for one in inner)


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
