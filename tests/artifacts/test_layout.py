# SPDX-License-Identifier: Apache-2.0
"""Any id becomes a path component that is safe, and no two become the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_mlops.artifacts import Place, decode_component, encode_component, new_attempt_id
from airflow_mlops.artifacts.layout import MAX_COMPONENT

SAFE = re.compile(r"[a-z0-9+!][a-z0-9._+!-]*\Z")
HOSTILE = [
    "",
    ".",
    "..",
    "../..",
    "../../etc/passwd",
    "/",
    "a/b",
    "a\\b",
    "~",
    "-rf",
    "--help",
    ".git",
    "_source",
    "_instances",
    "con.",
    "a\0b",
    "line\nbreak",
    "scheduled__2026-01-01T00:00:00+00:00",
    "manual__2026-01-01T00:00:00.123456+00:00_Ab3dE",
    "Ünïcode → 日本語",
    "\ud800",
    "x" * 1000,
    "X" * 1000,
    "日" * 1000,
    "ds=2026-01-01",
    "a%2Fb",
    "a+2fb",
    "!a",
    "*?[]",
]
texts = st.text(st.characters(codec=None), max_size=300)


def check_safe(component: str) -> None:
    assert SAFE.match(component), component
    assert not component.endswith(".")
    assert len(component.encode()) <= MAX_COMPONENT


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_become_safe_components(text: str) -> None:
    check_safe(encode_component(text))


@given(texts)
def test_any_text_becomes_a_safe_component(text: str) -> None:
    check_safe(encode_component(text))


def decode(component: str) -> str:
    """Undo the encoding of a name that was not cut, from the component as a file system gives it that ignores case."""
    decoded = bytearray()
    for escaped, capital, plain in re.findall(r"\+([0-9a-f]{2})|!([a-z])|([a-z0-9._-])", component.casefold()):
        decoded += bytes.fromhex(escaped) if escaped else capital.upper().encode() or plain.encode()
    return decoded.decode("utf-8", "surrogatepass")


@given(st.text(st.characters(codec=None), max_size=25) | st.text("aA.+!-=/_\0ü", max_size=25))
@example("A")
@example("!a")
@example("+2e")
@example("..")
def test_different_texts_stay_apart_on_file_systems_that_ignore_case(text: str) -> None:
    component = encode_component(text)
    if "!-" not in component:
        assert decode(component) == text


@given(texts)
@example("")
@example("A+2e!b")
def test_a_name_that_was_not_cut_can_be_read_again(text: str) -> None:
    component = encode_component(text)
    decoded = decode_component(component)
    assert decoded == text or (decoded is None and "!-" in component)


@given(st.text("aA.+!-=/_\0ü2e", max_size=12))
@example("+ff")
@example("_source")
def test_what_the_encoding_does_not_make_is_no_name(component: str) -> None:
    decoded = decode_component(component)
    assert decoded is None or encode_component(decoded) == component


def test_all_hostile_ids_stay_apart() -> None:
    encoded = {encode_component(text) for text in HOSTILE}
    assert len(encoded) == len(HOSTILE)


@given(st.text("ab", min_size=140, max_size=200), st.text("ab", min_size=140, max_size=200))
def test_long_texts_with_the_same_beginning_stay_apart(one: str, other: str) -> None:
    prefix = "x" * 200
    assert (encode_component(prefix + one) == encode_component(prefix + other)) == (one == other)


@given(texts)
def test_no_whole_name_looks_like_a_cut_one(text: str) -> None:
    cut = encode_component("y" * 1000)
    assert encode_component(text) != cut or text == "y" * 1000
    assert encode_component(cut) != cut


@pytest.mark.parametrize("text", ["churn", "route.big.fit", "breast-cancer", "fit_2", "2026-01-01"])
def test_ordinary_names_stay_readable(text: str) -> None:
    assert encode_component(text) == text


def test_no_component_looks_like_a_partition() -> None:
    assert "=" not in encode_component("ds=2026-01-01")


def test_the_layout_is_the_documented_one() -> None:
    place = Place("prod", "churn", "run-1", "route.fit", "-", 3)
    assert place.run_key == "prod/churn/run-1"
    assert place.source_key == "prod/churn/run-1/_source"
    assert place.generation_key == "prod/churn/run-1/route.fit/-/3"
    assert Place("prod", "churn", "run-1", "fit", "-", 3, 1).generation_key == "prod/churn/run-1/fit/-/3.1"
    assert place.manifest_key == "prod/churn/run-1/route.fit/-/3/manifest.json"
    assert place.claim_key(4) == "prod/churn/run-1/route.fit/-/3/claim-4.json"
    assert place.checkpoint_key == "prod/churn/run-1/route.fit/-/3/checkpoint"
    assert place.attempt_key("0a1b2c") == "prod/churn/run-1/route.fit/-/3/0a1b2c"
    assert place.step_json_key("0a1b2c") == "prod/churn/run-1/route.fit/-/3/0a1b2c/step.json"
    assert place.outputs_key("0a1b2c") == "prod/churn/run-1/route.fit/-/3/0a1b2c/outputs"
    assert place.outputs_json_key("0a1b2c") == "prod/churn/run-1/route.fit/-/3/0a1b2c/outputs.json"


@pytest.mark.parametrize("field", ["instance", "pipeline", "run", "step", "iteration"])
def test_no_id_leads_out_of_its_folder(field: str) -> None:
    ids = {"instance": "i", "pipeline": "p", "run": "r", "step": "s", "iteration": "-", field: "../../../../../../x"}
    assert ".." not in Place(**ids, generation=1).attempt_key("a").split("/")


def test_a_step_called_like_our_own_folder_does_not_meet_it() -> None:
    place = Place("i", "p", "r", "_source", "-", 1)
    assert not place.step_key.startswith(place.source_key)


def test_iterations_have_folders_of_their_own() -> None:
    keys = {
        Place("i", "p", "r", "s", iteration, 1).generation_key for iteration in ("-", "0", "0/1", "0/2", "a/", "+2d")
    }
    assert len(keys) == 6


def test_attempt_ids_are_random() -> None:
    assert len({new_attempt_id() for _ in range(1000)}) == 1000
    assert re.fullmatch("[0-9a-f]{12}", new_attempt_id())
