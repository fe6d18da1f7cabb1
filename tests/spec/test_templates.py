# SPDX-License-Identifier: Apache-2.0
"""The template language."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.spec.expressions import Expressions
from airflow_mlops.spec.templates import TemplateError, references, render

NAMES: dict[str, Any] = {
    "params": {
        "C": 1.0,
        "label": "churn",
        "on": True,
        "none": None,
        "grid": {"depth": [1, 2]},
        "items": "mine",
        "n": 3,
    },
    "inputs": {"train": {"path": "/mlops/inputs/train", "uri": "s3://b/k", "metadata": {"rows": 7}}, "rows": 10},
    "run": {"id": "manual__1", "try": 2},
    "ds": "2026-01-31",
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("{{ params.C }}", "1.0"),
        ("--c={{params.C}} {{ ds }}", "--c=1.0 2026-01-31"),
        ("{{ params.on }} {{ params.none }} {{ params.grid }}", 'true null {"depth":[1,2]}'),
        ("{{ run.try }}", "2"),
        ("{{ params.items }}", "mine"),
        ("{{ params['label'] }}", "churn"),
        ("{{ params.grid.depth[1] + 1 }}", "3"),
        ("{{ params.label | upper }}-{{ params.label | replace('ch', 'sp') }}", "CHURN-spurn"),
        ("{{ params.missing | default('x') }}{{ inputs.absent.path | default('') }}", "x"),
        ("{{ 'big' if params.n > 2 else 'small' }}", "big"),
        ("{{ params.grid.depth | join(',') }} {{ params.grid.depth | tojson }}", "1,2 [1,2]"),
        (
            "{{ params.missing is defined }} {{ 2.567 | round(1) }} {{ '7' | int }} {{ ' a ' | trim | length }}",
            "false 2.6 7 1",
        ),
        ("{{ params.n * 2 }} {{ 7 % 4 }} {{ 'a' ~ 1 }} {{ 'a' + 'b' }}", "6 3 a1 ab"),
        ("${#array} {# no comment #} {%d} }}", "${#array} {# no comment #} {%d} }}"),
        ("{# {{ ds }} #}", "{# 2026-01-31 #}"),
        ('{{ "{{" }} ds }}', "{{ ds }}"),
        ("line\r\n{{ ds | lower }}\r\n", "line\r\n2026-01-31\r\n"),
        ("{{ params.label }}\n", "churn\n"),
    ],
)
def test_text_is_rendered(text: str, rendered: str) -> None:
    assert render(text, NAMES) == rendered


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ params.nope }}", "'params.nope' has no value here"),
        ("{{ params.nope | upper }}", "'nope' is not there"),
        ("{{ params.label.upper }}", "has no value here"),
        ("{{ params.label.upper | lower }}", "'upper' is not there"),
        ("{{ params.label * 3 }}", "'*' takes two numbers"),
        ("{{ '%99999999d' % 5 }}", "'%' takes two numbers"),
        ("{{ 1 / 0 }}", "cannot be rendered: division by zero"),
        ("{{ params.grid | upper | int }}", "takes a number"),
    ],
)
def test_what_has_no_value_is_named(text: str, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(text, NAMES)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ params.label.upper() }}", "a call is not part of the template language"),
        ("{{ ''.__class__.__mro__ }}", None),
        ("{{ 9 ** 9 ** 9 }}", "a power ('**') is not part of the template language"),
        ("{{ range(10) }}", "a call is not part"),
        ("{{ params.label[0:2] }}", "a slice is not part"),
        ("{{ params[params.label] }}", "an index is a literal string or number"),
        ("{{ params.label | attr('x') }}", "unknown filter 'attr'; expected one of default"),
        ("{{ params.label | uper }}", "did you mean 'upper'?"),
        ("{{ params.label is callable }}", "unknown test 'callable'"),
        ("{% for x in params %}{{ x }}{% endfor %}", "statements ('{% … %}') are not part of the template language"),
        ("{% if params.on %}a{% endif %}", "statements"),
        ("{{ params.label", "is no template"),
        ("{{ }}", "is no template"),
        ("{{{ params.label }}}", "is no template"),
        ("{{ " + " + ".join(["1"] * 300) + " }}", "has more than 200 parts"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "is no template"),
        ("{{ x \ue0f0\ue0f1 }}", "private-use area"),
    ],
)
def test_what_is_not_in_the_language_is_refused_when_read(text: str, said: str | None) -> None:
    if said is None:
        with pytest.raises(TemplateError):
            render(text, NAMES)
        return
    with pytest.raises(TemplateError) as caught:
        references(text)
    assert said in str(caught.value)
    with pytest.raises(TemplateError):
        if "{%" in text:
            references(text)
        else:
            render(text, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "{{ x | replace('a', x) | replace('a', x) | replace('a', x) }}",
        "{{ [x, x, x] | join(x) | replace('a', x) }}",
        "{{ x ~ x }}" * 600,
    ],
)
def test_a_template_cannot_make_much_out_of_little(text: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError, match=r"grows beyond|expected at most|more than 200"):
        render(text, {"x": "a" * 2000})
    assert time.process_time() - started < 2


def test_references_are_names_in_order_of_appearance() -> None:
    assert references("{{ params.C }} {{ inputs.train.path }}") == (("params", "C"), ("inputs", "train", "path"))
    assert references("{{ params['C'] + inputs.rows | default(run.try) }}") == (
        ("params", "C"),
        ("inputs", "rows"),
        ("run", "try"),
    )


word = st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(
    lambda text: text not in {"not", "and", "or", "if", "in", "is", "none", "true", "false", "else"}
)


@given(
    parts=st.lists(
        st.tuples(
            st.text(
                alphabet=st.characters(exclude_characters="{}\ue0f0\ue0f5", exclude_categories=("Cs",)), max_size=5
            ),
            word,
            word,
        )
    ),
    value=st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none(), st.lists(st.integers(), max_size=3)),
)
def test_plain_names_mean_the_same_with_and_without_jinja(parts: list[tuple[str, str, str]], value: Any) -> None:
    text = "".join(f"{before}{{{{ {first}.{second} }}}}" for before, first, second in parts)
    names = {first: {second: value for _, _, second in parts} for _, first, _ in parts}
    assert Expressions().render(text, names) == render(text, names)
    assert set(Expressions().references(text)) == set(references(text))


def test_plain_names_do_not_import_jinja() -> None:
    code = (
        "import sys; from airflow_mlops.spec import load_pipeline; load_pipeline(sys.argv[1]);"
        "print(sorted(set(sys.modules) & {'jinja2', 'jsonschema', 'airflow', 'docker', 'kubernetes', 'fsspec', 'rich'}))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(Path(__file__).parent / "data" / "breast-cancer.yaml")]
    ran = subprocess.run(command, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
