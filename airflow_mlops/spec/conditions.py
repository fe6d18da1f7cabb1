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

from airflow_mlops.spec.cel_tree import ConditionError, Path, computed, function_of, mentioned, tree_of, with_root

if TYPE_CHECKING:
    from cel_expr_python import cel

LONGEST = 2000
"""Characters of a condition."""

_CALLED = {
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
    _computed: tuple[tuple[str, Any], ...]

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
        known = {name: _doubles(values[name]) for name in self.names}
        for function, program in self._computed:
            if why := _uncertain(program, known):
                return Verdict(self.text, False, shown, f"{_CALLED.get(function, function)} in it {why}")
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
    parts = tuple(
        (function_of(part), _environment(names).deserialize(with_root(serialized, part))) for part in computed(tree)
    )
    return Condition(text, paths, program, parts)


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


def _uncertain(program: Any, known: Mapping[str, Any]) -> str:
    """Why something that a condition computes is no ground to open a gate; empty if it is one."""
    from cel_expr_python import cel

    result = _evaluated(program, known)
    if isinstance(result, str):
        return f"cannot be evaluated: {result}"
    value = result.value()
    if result.type() == cel.Type.ERROR:
        return f"cannot be evaluated: {value}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is no finite number"
    return ""


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
