# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds, the answer is a pipeline or a SpecError."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops.spec import SpecError, load_pipeline
from tests.spec.support import DATA

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = [
    (DATA / name).read_text(encoding="utf-8") for name in ("everything.yaml", "breast-cancer.yaml", "ten-mistakes.yaml")
]
FRAGMENTS = [
    "{{", "}}", "{%", "[", "]", "{", "}", ":", "- ", "&a ", "*a", "<<: *common", "!!str ", "null", "~", "1e999", "0x", ".inf", "9" * 400,
    "\0", "\t", "\n", "\r\n", "\u2028", "é", "'", '"', "#", "| ", "? ", "steps", "kind: gate", "foreach: {}", "kind: import", "true", "-1",
    "2Gi", "{{ params.x }}", "{{ inputs.a.b | join }}", "needs: [fit]", "name: fit", "[]", "{}", "from", "params",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good spec with some places changed: text put in, cut out, lines moved."""
    text = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 12))
        inserted = draw(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)))
        text = text[:at] + inserted + text[at + length :]
    return text


@st.composite
def replaced(draw: st.DrawFn) -> str:
    """A good spec in which the values of some lines are others."""
    lines = draw(st.sampled_from(SOURCES)).splitlines()
    for _ in range(draw(st.integers(1, 5))):
        index = draw(st.integers(0, len(lines) - 1))
        key = lines[index].partition(":")[0]
        lines[index] = (
            f"{key}: {draw(st.sampled_from(['[]', '{}', '1', 'x', 'null', 'true', '[1, {a: b}]', '{a: [1]}', '1.5', '-3', 'a.b']))}"
        )
    return "\n".join(lines)


def check(folder: Path, data: bytes) -> None:
    file = folder / "spec.yaml"
    file.write_bytes(data)
    for environment in (None, "dev"):
        try:
            load_pipeline(file, environment)
        except SpecError as error:
            assert error.problems
            assert len(str(error)) < 50_000
            for problem in error.problems:
                assert "\n" not in problem.message
                assert "pydantic" not in problem.message.lower()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(mutated(), replaced()))
def test_a_mutated_spec_loads_or_gives_problems(tmp_path: Path, text: str) -> None:
    check(tmp_path, text.encode("utf-8", "surrogatepass"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_give_problems(tmp_path: Path, data: bytes) -> None:
    check(tmp_path, data)


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nope.yaml: cannot be read: No such file or directory"):
        load_pipeline(tmp_path / "nope.yaml")


def test_a_folder_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_pipeline(tmp_path)


def test_a_path_with_a_nul_is_a_problem() -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_pipeline("a\0b.yaml")


def test_bytes_that_are_not_utf8_are_a_problem_with_a_place(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"apiVersion: mlops/v1\nname: caf\xe9\n")
    with pytest.raises(SpecError, match=r"s.yaml:2:10: byte 0xe9 is not UTF-8"):
        load_pipeline(tmp_path / "s.yaml")


def test_a_file_that_is_too_big_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"# " + b"x" * (1 << 20))
    with pytest.raises(SpecError, match="is larger than 1048576 bytes"):
        load_pipeline(tmp_path / "s.yaml")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbf" + SOURCES[0].encode())
    assert load_pipeline(tmp_path / "s.yaml").spec.name == "every.thing_1"


def test_a_pattern_that_backtracks_does_not_hang_the_reader(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "apiVersion: mlops/v1\nname: p\nparams:\n  a: {type: string, pattern: '^(a+)+$', default: " + "a" * 60 + "!}\n"
        "steps: [{name: a, kind: container, image: i}]\n"
    )
    started = time.process_time()
    with pytest.raises(SpecError, match="does not match its pattern"):
        load_pipeline(tmp_path / "s.yaml")
    assert time.process_time() - started < 2


def test_many_problems_are_counted_not_shown(tmp_path: Path) -> None:
    steps = "\n".join(f"  - {{name: s{n}, kind: container, image: i, colour: {'x' * 2000}}}" for n in range(100))
    (tmp_path / "s.yaml").write_text(f"apiVersion: mlops/v1\nname: p\nsteps:\n{steps}\n")
    with pytest.raises(SpecError) as caught:
        load_pipeline(tmp_path / "s.yaml")
    assert len(caught.value.problems) == 100
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 80 more problems"


def _with_steps(*lines: str) -> str:
    return "apiVersion: mlops/v1\nname: p\ndefaults: {image: i}\nsteps:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        _with_steps(*(f"  - {{name: s{n}, kind: container, needs: [unknown-{n}]}}" for n in range(5000))),
        _with_steps(*(f"  - {{name: s{n}, kind: container, inputs: {{x: t{n}.y}}}}" for n in range(5000))),
        _with_steps(*(f"  - {{name: s{n}, kind: container, retreis: 1}}" for n in range(5000))),
        _with_steps("  - {name: a, kind: container}") + "".join(f"key{n}: 1\n" for n in range(40_000)),
        _with_steps("  - name: a\n    kind: container\n    env:", *(f"      K{n}: [1]" for n in range(40_000))),
        _with_steps(*(f"  - {{name: s{n}, kind: container, needs: [s{n + 1}, s{n // 2}]}}" for n in range(5000))),
        _with_steps(
            "  - {name: a, kind: container, command: ["
            + ", ".join(f'"{{{{ p{n} + 1 }}}}"' for n in range(20_000))
            + "]}"
        ),
        _with_steps(*(f"  - {{name: a, kind: container, params: [p{n}]}}" for n in range(5000))),
        "params: {"
        + ", ".join(f"p{n}: {{default: 1, minimum: 2}}" for n in range(8000))
        + "}\n"
        + _with_steps("  - {name: a, kind: container}"),
    ],
    ids=["needs", "inputs", "keys", "top", "env", "cycles", "templates", "names", "params"],
)
def test_a_file_full_of_mistakes_is_judged_in_seconds(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(SpecError):
        load_pipeline(tmp_path / "s.yaml")
    assert time.process_time() - started < 10
