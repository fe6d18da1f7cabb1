# SPDX-License-Identifier: Apache-2.0
"""Conditions in CEL: what opens a gate, and that everything that is not certain keeps it closed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.spec.cel_tree import ConditionError
from airflow_mlops.spec.conditions import parse, written

VALUES: dict[str, Any] = {
    "m": {
        "accuracy": 1,
        "a": 0.95,
        "lat": 150,
        "nan": math.nan,
        "inf": -math.inf,
        "xs": [1, 2.0],
        "odd": [1.0, {"deep": math.nan}],
        "b-c": 3,
        "flag": True,
        "name": "x",
        "big": 10**400,
        "zero": 0,
        "none": None,
        "empty": [],
        "cut": "final\0not",
        "records": [{"a": 1.0}],
        "huge": 1e300,
        "matrix": [[1, 2]],
    },
    "old": {"auc": 0.5},
}
NAMES = frozenset(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "m.lat < 200",
        "m.accuracy >= 1",
        "m.accuracy == 1 && m.accuracy == 1.0",
        "m.xs.all(x, x >= 1)",
        "m.xs[1] == 2 && m['b-c'] == 3 && m.matrix[0][1] == 2",
        "m.a > old.auc + 0.1",
        "m.flag == true && m.name == 'x'",
        "m.lat in [150.0, 2.0]",
        "size(m.xs) == 2",
        "m.a < 0.9 || !(m.a < 0.9)",
        "m.a * 2.0 - old.auc / 2.0 > 1.5",
        "m.xs.filter(x, x > 1.0).size() == 1 && m.xs.exists_one(x, x == 2) && m.xs.map(x, x).size() - 1 == 1",
        "m.xs.all(x, x > old.auc - 0.1)",
        "int(m.lat) % 2 == 0",
    ],
)
def test_what_holds_opens(text: str) -> None:
    verdict = parse(text, NAMES).look(VALUES)
    assert (verdict.holds, verdict.why) == (True, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("m.lat < 100", ""),
        ("m.typo > 1", "there is no m.typo"),
        ("m.a >= 0.93 || m.typo > 1.0", "there is no m.typo"),
        ("m.xs.exists(x, x > m.typo)", "there is no m.typo"),
        ("m.a.b > 1.0 || true", "there is no m.a.b"),
        ("m.xs[2] > 0 || true", "there is no m.xs[2]"),
        ("m.xs[-1] > 0 || true", "there is no m.xs[-1]"),
        ("nowhere.a > 1.0 || true", "there is no nowhere.a"),
        ("!(m.nan > 0.5)", "m.nan is nan, which is no finite number"),
        ("m.nan != 0.0", "m.nan is nan, which is no finite number"),
        ("m.inf < 0.0", "m.inf is -inf, which is no finite number"),
        ("size(m.odd) == 2", "m.odd is nan, which is no finite number"),
        ("{'a': m.nan}.a != 1.0", "m.nan is nan, which is no finite number"),
        ("m.big > 1.0", "m.big is too large, which is no finite number"),
        ("m.a > 0.0 && 9223372036854775807 + 1 > 0", "a sum in it cannot be evaluated: OUT_OF_RANGE: integer overflow"),
        ("!(m.zero / m.zero < 0.5)", "a quotient in it is nan, which is no finite number"),
        ("m.a / m.zero > 1.0", "a quotient in it is inf, which is no finite number"),
        ("m.zero > 0.0 ? m.a / m.zero > 1.0 : true", "a quotient in it is inf, which is no finite number"),
        ("!(m.huge * m.huge < 1.0)", "a product in it is inf, which is no finite number"),
        ("!(m.huge * m.huge - m.huge * m.huge > 1.0)", "a product in it is inf, which is no finite number"),
        ("double('NaN') != m.a", "double in it is nan, which is no finite number"),
        ("m.a > 0.0 || 1 / 0 > 1", "a quotient in it cannot be evaluated: INVALID_ARGUMENT: divide by zero"),
        ("m.a > 0.0 || m.name + 1.0 > 2.0", "a sum in it cannot be evaluated: "),
        ("m.xs.all(x, x >= m.zero / m.zero) || true", "a quotient in it is nan, which is no finite number"),
        ("m.name > 1.0", "a comparison in it cannot be evaluated: "),
        ("m.a > 'x' || m.a > 0.1", "a comparison in it cannot be evaluated: "),
        ("[old][0].typo > 1.0 || m.a > 0.1", "a value in it cannot be evaluated: NOT_FOUND"),
        ("{'k': old}['k']['ty' + 'po'] > 1.0 || true", "a value in it cannot be evaluated: NOT_FOUND"),
        ("m.a != 'text'", "it compares a number with a text"),
        ("!(dyn(m.a) == '0.5')", "it compares a number with a text"),
        ("!(m.a in ['x'])", "it compares a number with a text"),
        ("m.a != true", "it compares a number with true or false"),
        ("m.none != 1.0", "it compares a number with null"),
        ("m.empty.all(x, x > 0.8)", "it goes through a list that is empty"),
        ("!m.empty.exists(x, x > 0.8)", "it goes through a list that is empty"),
        ("m.cut == 'final'", "m.cut holds a NUL character, at which CEL ends a text"),
        ("m.xs.all(x, x < m.name + m.name) || true", "a sum in it is no number"),
        ("m.name > m.a || m.flag > 1.0", "a comparison in it cannot be evaluated: "),
    ],
)
def test_what_is_not_certain_is_closed_and_says_why(text: str, why: str) -> None:
    verdict = parse(text, NAMES | {"nowhere"}).look(VALUES)
    assert not verdict.holds
    assert verdict.why.startswith(why) and bool(verdict.why) == bool(why)


def test_the_values_that_were_looked_at_are_told() -> None:
    verdict = parse("m.a > old.auc || m['b-c'] > m.typo", NAMES).look(VALUES)
    assert verdict.values == {"m.a": 0.95, "old.auc": 0.5, "m['b-c']": 3, "m.typo": None}


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("m.a >", 6, "Syntax error"),
        ("m.a > 1 && zz > 1", 12, "undeclared reference to 'zz'"),
        ("'yes'", 1, "is of type string"),
        ("m.a", 1, "is a value that may be anything"),
        ("1 + 1", 1, "is of type int"),
        ("m[m.name] > 1", 1, "whose name is not written there"),
        ("m.a > 1" + " " * 2000, 1, "characters long"),
        ("", 1, "Syntax error"),
        ("m.a * 2 > 1.0", 9, "expected all numbers of a calculation and what it is compared with to have a point"),
        ("m.a * 2 > 1", 1, r"computes with 2, which is an integer, and a value that is not; expected 2\.0"),
        ("m.a % m.a > 1.0", 1, "computes a remainder, which numbers with a point have none of"),
        ("m.xs.all(x, x / m.zero > 1.0)", 1, "asks / of each element of a list; expected comparisons"),
        ("m.xs.all(x, x > 0.0 || x < m.a)", 1, r"asks \|\| of each element of a list"),
        ("m.xs.all(x, m.name.matches('a*'))", 1, "asks matches of each element of a list"),
        ("m.xs.map(x, [x, x]).size() > 0", 1, "makes a value for each element of a list"),
        ("m.records.all(x, x.a > 0.0 && x.typo > 0.0)", 1, r"looks into the elements of a list \((a|typo)\)"),
        ("m.records.all(x, !has(x.typo))", 1, r"looks into the elements of a list \(typo\)"),
        ("!has([m][0].typo)", 1, "asks has"),
        ("m.xs.all(x, m.xs.all(y, x > y))", 1, "goes through a list for each element of another one"),
    ],
)
def test_what_is_no_condition_is_told_with_its_place(text: str, column: int, said: str) -> None:
    with pytest.raises(ConditionError, match=said) as caught:
        parse(text, NAMES)
    assert caught.value.column == column


NUMBERS = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers())
COMPARISONS = (
    "m.x > {0!r}",
    "!(m.x > {0!r})",
    "m.x != {0!r}",
    "!(m.x == {0!r})",
    "m.x <= {0!r} || m.x >= {0!r}",
    "m.y > 0.0 || true",
)


@given(st.dictionaries(st.sampled_from("xyz"), NUMBERS), st.floats(-1e9, 1e9), st.sampled_from(COMPARISONS))
def test_no_gate_is_opened_by_a_number_that_is_none_or_missing(m: dict[str, Any], limit: float, text: str) -> None:
    condition = parse(text.format(limit), frozenset({"m"}))
    verdict = condition.look({"m": m})
    for path in condition.paths:
        value = m.get(str(path[1]))
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            assert not verdict.holds and written(path) in verdict.why


OPERATORS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}
EXTREME = st.one_of(
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324]), st.floats(allow_nan=False, allow_infinity=False)
)


@given(
    EXTREME,
    EXTREME,
    st.sampled_from("+-*/"),
    st.sampled_from(["{} < 1.0", "!({} < 1.0)", "{} != 0.0", "{} > 1.0 || true"]),
)
def test_no_gate_is_opened_by_a_calculation_that_is_not_finite(x: float, y: float, sign: str, text: str) -> None:
    verdict = parse(text.format(f"m.x {sign} m.y"), frozenset({"m"})).look({"m": {"x": x, "y": y}})
    try:
        finite = math.isfinite(OPERATORS[sign](x, y))
    except ZeroDivisionError:
        finite = False
    assert finite or not verdict.holds
