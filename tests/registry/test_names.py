# SPDX-License-Identifier: Apache-2.0
"""Names, aliases, numbers and references: what is none is refused, whatever it would do elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.artifacts import encode_component
from airflow_mlops.registry import ModelReference, NameRefused, check_alias, check_name, check_number

HOSTILE = [
    "", " ", "x' or name!='", 'x"y', "a\n", "a\nb", "\na", "..", ".", ".a", "-a", "_a", "a/b", "a\\b", "a@b", "a:b", "a b",
    "a\0", "é", "１", "a" * 129, "a%2fb", "${x}", "$(id)", "{{ x }}", "a;b", "a`b`", "*", "a\u202eb", None, 3, b"a", ["a"],
]  # fmt: skip


@pytest.mark.parametrize("name", ["a", "A", "0", "churn", "Churn-EU_2.1", "a..b", "a.", "a" * 128, "con", "a--"])
def test_a_name_of_letters_digits_dots_dashes_and_underscores_is_one(name: str) -> None:
    assert check_name(name) == name
    component = encode_component(name)
    assert "/" not in component
    assert component.strip(".") == component
    assert not component.startswith(("_", "-"))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_name_is_refused_on_one_line(name: Any) -> None:
    with pytest.raises(NameRefused, match="is no name of a model; expected") as failure:
        check_name(name)
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 400


@pytest.mark.parametrize("alias", ["champion", "a", "a" * 64, "eu-west_1", "version", "v", "v1x", "latest-good"])
def test_an_alias_is_a_small_word(alias: str) -> None:
    assert check_alias(alias) == alias


@pytest.mark.parametrize("alias", [*HOSTILE, "A", "Champion", "0", "a.b", "a" * 65, "champion\n"])
def test_what_is_no_alias_is_refused(alias: Any) -> None:
    with pytest.raises(NameRefused, match="is no alias; expected"):
        check_alias(alias)


@pytest.mark.parametrize("alias", ["latest", "v1", "v007"])
def test_an_alias_that_looks_like_a_version_is_refused(alias: str) -> None:
    with pytest.raises(NameRefused, match="reserved"):
        check_alias(alias)


@pytest.mark.parametrize("number", [0, -1, 1_000_000_000, pytest.param(10**5000, id="endless"), True, 1.0, "1", None])
def test_what_is_no_number_of_a_version_is_refused(number: Any) -> None:
    with pytest.raises(NameRefused, match="is no version of a model; expected a whole number"):
        check_number(number)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("models:churn@champion", ModelReference("churn", alias="champion")),
        ("models:churn/3", ModelReference("churn", version=3)),
        ("models:a.b-C_d/999999999", ModelReference("a.b-C_d", version=999_999_999)),
    ],
)
def test_a_reference_goes_there_and_back(text: str, reference: ModelReference) -> None:
    assert ModelReference.parse(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "models:", "churn", "churn@champion", "models:churn", "models:churn@", "models:churn/", "models:@champion",
        "models:/3", "models:/churn@champion", "models://churn/3", "MODELS:churn/3", "models:churn/0", "models:churn/03",
        "models:churn/-1", "models:churn/+1", "models:churn/1e3", "models:churn/1_0", "models:churn/٣", "models:churn/³",
        "models:churn/3\n", "models:churn/3/4", "models:churn@a@b", "models:churn@champion/3", "models:churn/" + "9" * 5000,
        "models:churn/1000000000", "models:../3", "models:a/../3", "models:x' or name!='/3", " models:churn/3",
        "models:churn@champion ", "models:churn@latest", "models:churn/latest", None, 3,
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused_on_one_line(text: Any) -> None:
    with pytest.raises(NameRefused) as failure:
        ModelReference.parse(text)
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 500


@pytest.mark.parametrize(("alias", "version"), [(None, None), ("champion", 3)])
def test_a_reference_has_an_alias_or_a_version(alias: str | None, version: int | None) -> None:
    with pytest.raises(NameRefused, match="and not both"):
        ModelReference("churn", alias, version)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_whatever_is_parsed_is_spelt_the_same(rest: str) -> None:
    try:
        reference = ModelReference.parse(f"models:{rest}")
    except NameRefused:
        return
    assert str(reference) == f"models:{rest}"
    assert rest.isascii()
