# SPDX-License-Identifier: Apache-2.0
"""Shapes as pages draw them, without a server: where things go, what is cut, and that nothing in them is markup."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_mlops.artifacts.curves import Extent
from airflow_mlops.artifacts.metrics import read_metrics
from airflow_mlops.ui.shapes import BOTTOM, LEFT, MAX_POINTS, RIGHT, SHADES, TOP, drawn, ticks

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "tests/artifacts/metrics"
TEMPLATES = ROOT / "airflow_mlops/ui/templates"
HOSTILE = "\"'></text><script>alert(1)</script><b onclick=x>"


def html(document: dict[str, Any]) -> str:
    """What a page has of the shapes of a metrics file."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shapes = [drawn(key, shape) for key, shape in read_metrics(json.dumps(document).encode()).shapes.items()]
    template = pages.from_string(
        '{% from "shapes.html" import draw %}{% for shape in shapes %}{{ draw(shape) }}{% endfor %}'
    )
    return template.render(shapes=shapes)


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text())
    return found


def curve(x: list[float], y: list[float]) -> dict[str, Any]:
    return {"c": {"type": "curve", "x": x, "y": y}}


class Tags(HTMLParser):
    """The elements of a text, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_curve_is_a_line_between_axes_with_numbers_and_names() -> None:
    text = html(example("roc"))
    assert f'<polyline points="{LEFT}.0,{BOTTOM}.0 {LEFT}.0,49.2 ' in text
    assert f'{RIGHT}.0,{TOP}.0"/>' in text
    assert re.findall(r'text-anchor="middle">([0-9.]+)<', text) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert ">false positive rate</text>" in text and ">true positive rate</text>" in text
    assert "<b>roc</b>  Malignant against benign" in text
    assert "<title>0.0125, 0.92, threshold 0.71</title>" in text and "<title>0, 0</title>" in text
    assert "legend" not in text


def test_lines_of_a_curve_are_told_apart_by_a_legend() -> None:
    text = html(example("learning"))
    assert re.findall(r'<g class="line line-(\d)"><polyline points="([^ ]+) ', text)[:2] == [
        ("0", "90.0,12.0"),
        ("1", "198.0,114.6"),
    ]
    assert re.findall(r"</svg>([a-z]+)</li>", text) == ["train", "validation"]
    assert "<title>validation: 4, 0.27</title>" in text


def test_a_matrix_is_shaded_and_says_what_its_sides_are() -> None:
    text = html(example("confusion"))
    assert re.findall(r'shade-(\d)">(\d+)<', text) == [("8", "76"), ("0", "4"), ("0", "1"), ("5", "47")]
    assert '<th scope="col" class=number>malignant</th>' in text and '<th scope="row">malignant</th>' in text
    assert "rows: what it is, columns: what it was called" in text
    style = (TEMPLATES / "style.css").read_text()
    assert all(f".shade-{level} " in style for level in range(SHADES + 1))


def test_tables_and_texts_are_shown_as_they_are() -> None:
    text = html({**example("table"), **example("text")})
    assert '<th scope="col">class</th><th scope="col" class=number>precision</th>' in text
    assert '<td class="number">0.922</td>' in text and '<td class="">null</td>' in text
    assert "<pre>One tumour was missed.\nIts threshold is 0.48.</pre>" in text


def test_nothing_in_a_shape_is_markup() -> None:
    line = {"x": [0, 1], "y": [0, 1]}
    text = html(
        {
            HOSTILE: {
                "type": "curve",
                "series": [{"name": HOSTILE, **line}],
                "x_label": HOSTILE,
                "y_label": HOSTILE,
                "title": HOSTILE,
            },
            "m": {"type": "matrix", "values": [[1]], "labels": [HOSTILE], "x_label": HOSTILE, "y_label": HOSTILE},
            "t": {"type": "table", "columns": [HOSTILE], "rows": [[HOSTILE]]},
            "p": {"type": "text", "text": HOSTILE},
        }
    )
    tags = Tags(text).found
    known = "figure figcaption svg line text path g polyline circle title ul li b p div table thead tbody tr th td pre"
    assert {tag for tag, _ in tags} <= set(known.split())
    assert text.count("&lt;script&gt;") >= 12
    # The policy of the pages lets no style attribute pass, and no script run.
    assert not [name for _, attributes in tags for name in attributes if name == "style" or name.startswith("on")]


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-3, 17, ["0", "5", "10", "15"]),
        (0.11, 0.69, ["0.2", "0.4", "0.6"]),
        (-1.7e308, 1.7e308, ["-1.7e+308", "1.7e+308"]),
        (0, 5e-324, ["0", "4.94066e-324"]),
        (1e16, 1e16 + 2, ["1e+16"]),
    ],
)
def test_axes_have_a_few_round_numbers(low: float, high: float, texts: list[str]) -> None:
    found = ticks(Extent(low, high))
    assert [text for _, text in found] == texts
    assert all(low <= value <= high * (1 + 1e-9) for value, _ in found)


@pytest.mark.parametrize("x", [[0, 1, 2], [-1.7e308, 1.7e308, 0], [1, 1, 1], [0, 5e-324, 5e-324], [2**63 - 1, 0, 1]])
def test_every_point_lies_between_the_axes(x: list[float]) -> None:
    found = re.search(r'<polyline points="([^"]+)"', html(curve(x, x)))
    assert found is not None
    for point in found[1].split():
        across, up = map(float, point.split(","))
        assert LEFT <= across <= RIGHT and TOP <= up <= BOTTOM and math.isfinite(across + up)


def test_the_largest_shapes_are_cut_and_it_is_said() -> None:
    many = 30_000
    line = {"x": list(range(2000)), "y": list(range(2000))}
    pages = {
        "line": curve(list(range(many)), list(range(many))),
        "lines": {"c": {"type": "curve", "series": [{"name": str(n), **line} for n in range(40)]}},
        "matrix": {"m": {"type": "matrix", "values": [[1] * 300] * 300}},
        "table": {"t": {"type": "table", "columns": ["n"], "rows": [[n] for n in range(many)]}},
        "text": {"t": {"type": "text", "text": "x" * 500_000}},
        "none": curve([], []),
    }
    made = {name: html(document) for name, document in pages.items()}
    assert max(map(len, made.values())) < 300_000
    assert made["line"].count(",") <= MAX_POINTS + 10 and "<circle" not in made["line"]
    assert "and 32 more lines" in made["lines"]
    assert "and 200 more rows, 260 more columns" in made["matrix"]
    assert "and 29900 more rows" in made["table"]
    assert "and 490000 more characters" in made["text"]
    assert "No points." in made["none"]
