# SPDX-License-Identifier: Apache-2.0
"""YAML as a spec reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.spec.documents import compose
from airflow_mlops.spec.problems import SpecError
from airflow_mlops.spec.values import MAX_NODES, Plain


def read(text: str) -> tuple[Any, list[str]]:
    plain = Plain("f")
    data = plain.convert(compose("f", text))
    return data, [str(problem) for problem in plain.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("2026-01-31", "2026-01-31"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ('"null"', "null"),
        ("=", "="),
        ("- ", [None]),
        ("|\n  text\n", "text\n"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    data, found = read(text)
    assert data == value
    assert type(data) is type(value)
    assert not found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: key 'a' is given twice; expected each key once; the first is on line 1"),
        ("a: !!str 1\n", "f:1:4: tag 'tag:yaml.org,2002:str' is refused; expected plain YAML without tags"),
        (
            "a: !!python/object/apply:os.system [x]\n",
            "f:1:4: tag 'tag:yaml.org,2002:python/object/apply:os.system' is refused",
        ),
        ("!x a: 1\n", "f:1:1: tag '!x' is refused"),
        ("1: a\n", "f:1:1: key '1' is not a string; expected a string; did you mean '\"1\"'?"),
        ("null: a\n", "f:1:1: key 'null' is not a string"),
        ("[a]: b\n", "f:1:1: a list is used as a key; expected a string"),
        ("a: .inf\n", "f:1:4: '.inf' is no number that JSON can hold"),
        ("a: .nan\n", "f:1:4: '.nan' is no number that JSON can hold"),
        ("a: 1e999\n", "f:1:4: '1e999' is no number that JSON can hold"),
        ("a: " + "9" * 5000 + "\n", "is no number that JSON can hold"),
        ("a: {{ params.x }}\n", "f:1:4: an unquoted '{{' starts a YAML mapping; expected quotes around the whole text"),
        ("a: {b: 1}\nc:\n  <<: 3\n", "f:3:7: a merge ('<<') takes a mapping or a list of mappings"),
    ],
)
def test_what_a_spec_does_not_want_is_said_with_its_place(text: str, said: str) -> None:
    _, found = read(text)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "f:2:1: is not YAML"),
        ("a: 1\n\tb: 2\n", "expected spaces: YAML is not indented with tabs"),
        ("a: {{ x }}-b\n", "an unquoted '{{' starts a YAML mapping"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second YAML document starts here; expected one spec a file"),
        ("a: *x\n", "f:1:4: is not YAML: found undefined alias"),
        ("", "f:1:1: the file is empty; expected a spec that starts with 'apiVersion: mlops/v1'"),
        ("# only a comment\n", "f:1:1: the file is empty"),
        ("a: x\0y\n", "f:1:5: character U+0000 is not allowed in YAML"),
        ("a: 1\nb: \x1b[0m\n", "f:2:4: character U+001B is not allowed in YAML"),
        ("[" * 60 + "]" * 60, "f:1:51: is nested deeper than 50 levels"),
        ("[" * 100_000, "f:1:1001: is not YAML: exceeded maximum nesting depth"),
        ("{? " * 50_000, "is not YAML: exceeded maximum nesting depth"),
        ("- " * 100_000, "is not YAML: exceeded maximum nesting depth"),
        ("? - " * 50_000, "is not YAML: exceeded maximum nesting depth"),
        (f"{'[' * 100_000}{']' * 100_000}", "is not YAML: exceeded maximum nesting depth"),
        ("&a [*a]", "is nested deeper than 50 levels, or an alias contains itself"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text)
    assert said in str(caught.value)


def test_aliases_that_multiply_are_refused_before_they_are_expanded() -> None:
    levels = "\n".join(f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 10)}]" for n in range(9))
    with pytest.raises(SpecError, match=f"expands to more than {MAX_NODES} values"):
        read(f"l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n{levels}\n")


def test_merge_keys_bring_in_what_is_not_written() -> None:
    data, found = read("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  a: 0\n  <<: [*x, *y]\nq: {'<<': 1}\n")
    assert data["z"] == {"a": 0, "b": 2, "c": 4}
    assert data["q"] == {"<<": 1}
    assert not found


def test_the_parser_of_pyyaml_gives_the_same_where_libyaml_is_missing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['yaml.cyaml'] = None\n"
        "from pathlib import Path\n"
        "from airflow_mlops.spec import load_pipeline, documents, to_text\n"
        "from airflow_mlops.spec.problems import SpecError\n"
        "from airflow_mlops.spec.documents import _Nodes\n"
        "assert 'CParser' not in [base.__name__ for base in _Nodes.__mro__]\n"
        "print(to_text(load_pipeline(sys.argv[1])))\n"
        "try: load_pipeline(sys.argv[2])\n"
        "except SpecError as error: print(len(error.problems))\n"
    )
    data, root = Path(__file__).parent / "data", Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(data / "everything.yaml"), str(data / "ten-mistakes.yaml")]
    ran = subprocess.run(command, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("every.thing_1\n")
    assert ran.stdout.endswith("10\n")
