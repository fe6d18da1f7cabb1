# SPDX-License-Identifier: Apache-2.0
"""The pages say what the code says: snippets are parts of tested files, commands exist, tables are the models'."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from airflow_mlops.cli.main import COMMANDS, cli
from tests.dags.spec_tables import LINKED, MARKED, PAGE, filled

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPET = re.compile(r"<!-- from: (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"airflow-mlops ([a-z]+)((?: [^`\n]*)?)")
SNIPPETS = [
    pytest.param(page, *found, id=f"{page.name}-{number}")
    for page in PAGES
    for number, found in enumerate(SNIPPET.findall(page.read_text(encoding="utf-8")), start=1)
]


@pytest.mark.parametrize(("page", "file", "text"), SNIPPETS)
def test_snippet_is_part_of_the_file_it_names(page: Path, file: str, text: str) -> None:
    assert text in (ROOT / file).read_text(encoding="utf-8"), f"{page.name} shows what is not in {file}"


def test_the_spec_in_the_readme_is_a_whole_tested_file_of_ten_lines() -> None:
    found = dict(SNIPPET.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    spec = found["dags/quickstart/pipeline.yaml"]
    assert spec == (ROOT / "dags/quickstart/pipeline.yaml").read_text(encoding="utf-8")
    assert len(spec.splitlines()) == 10


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "architecture.md"],  # whose snippets are signatures
    ids=lambda page: page.name,
)
def test_yaml_and_python_snippets_name_their_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```(?:yaml|python|sh|dockerfile|json)$", text, re.MULTILINE)) == len(SNIPPET.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_in_the_pages_exist(page: Path) -> None:
    for name, rest in COMMAND.findall(page.read_text(encoding="utf-8")):
        assert name in COMMANDS, f"{page.name}: airflow-mlops {name}"
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        words = rest.partition(" -- ")[0].split()  # what follows is a command of the user's own
        if isinstance(command, click.Group) and words:
            assert words[0] in command.commands, f"{page.name}: airflow-mlops {name} {words[0]}"
            command = command.commands[words[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("-"):
                assert word in options, f"{page.name}: airflow-mlops {name} {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_links_to_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_settings_in_the_platform_guide_are_those_that_are_read() -> None:
    source = (ROOT / "airflow_mlops/operators/settings.py").read_text(encoding="utf-8")
    text = (ROOT / "docs" / "platform.md").read_text(encoding="utf-8")
    settings = re.findall(r"^\| `([a-z_]+)` \|", text.split("| setting |")[1].split("\n\n")[0], re.MULTILINE)
    assert set(settings) == set(
        re.findall(r'(?:_text|_words|_json_object|_flag|_count|_choice|getint)\((?:SECTION, )?"([a-z_]+)"', source)
    )


def test_the_spec_reference_is_the_models() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == filled(text), "docs/spec.md is stale; run: python -m tests.dags.spec_tables"
    assert {match[2] for match in MARKED.finditer(text)} >= set(LINKED)


def test_every_link_within_the_spec_reference_has_its_heading() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_tests_that_a_page_names_exist() -> None:
    text = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+/\w+\.py)::(\w+)`", text)
    assert len(named) > 30  # the page and the pattern belong together
    missing = [
        (file, name)
        for file, name in named
        if f"def {name}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")
    ]
    assert missing == []
