# SPDX-License-Identifier: Apache-2.0
"""What no Docker daemon takes is told when a spec is read; what the daemon itself says of it is in the operators' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.spec.support import load, problem

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: mlops/v1\nname: p\n"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("image: Repo/Name", "'Repo/Name' is no image; expected a name such as python:3.12"),
        ("image: 'python :3'", "'python :3' is no image"),
        ("image: 'a:b:c'", "'a:b:c' is no image"),
        ("image: 'a@sha256:12'", "is no image"),
        ("image: i, resources: {memory: 5Mi}", "memory of 5Mi is too little for a container; expected 6Mi or more"),
        ("image: i, resources: {cpu: 5m}", "0.005 cores are too few for a container; expected 0.01 or more"),
        ("image: i, volumes: [{source: a, target: /d}, {source: b, target: /d/}]", "'/d/' is the target of two volumes"),
        ("image: i, docker: {user: [1]}", "'user' is [1]; expected a user such as 1000"),
    ],
)  # fmt: skip
def test_container_that_no_daemon_makes_is_refused(tmp_path: Path, step: str, said: str) -> None:
    assert said in problem(tmp_path, f"{HEAD}steps:\n  - {{name: a, kind: container, {step}}}\n")


@pytest.mark.parametrize(
    "image",
    ["python", "python:3.12-slim", "ghcr.io/team/train:1", "localhost:5000/a/b", "[::1]:5000/a", "a__b--c.d/e_f",
     "a@sha256:" + "0" * 64, "r.example/a:t@sha256:" + "0" * 64, "{{ params.image }}", "r/{{ params.image }}:1"],
)  # fmt: skip
def test_image_is_a_name_of_any_registry_or_a_template(tmp_path: Path, image: str) -> None:
    text = f"{HEAD}params: {{image: x}}\nsteps:\n  - {{name: a, kind: container, image: '{image}'}}\n"
    assert load(tmp_path, text).step("a").spec.image == image


def test_process_step_may_ask_for_less_than_a_container_can_have(tmp_path: Path) -> None:
    step = "{name: a, kind: container, runtime: process, command: [x], resources: {memory: 1Mi, cpu: 1m}}"
    assert load(tmp_path, f"{HEAD}steps: [{step}]\n").step("a").spec.resources.memory == 1 << 20


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("[python, fit.py]", "4:54: step 'a' runs 'fit.py', which is not in the source folder; expected a file of it"),
        ("[./fit.sh]", "4:46: step 'a' runs './fit.sh'"),
        ("[/usr/bin/python3.12, sub/fit.py]", "runs 'sub/fit.py'"),
        ("[sh, good.sh]", None),
        ("[python, -m, fit]", None),
        ("[python, '{{ params.p }}.py']", None),
        ("[python, /opt/fit.py]", None),
        ("[fit.py, fit.py]", None),
    ],
)
def test_script_that_the_source_does_not_hold_is_refused(tmp_path: Path, command: str, said: str | None) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "good.sh").touch()
    text = f"{HEAD}source: src\nsteps: [{{name: a, kind: container, command: {command}, image: i}}]\nparams: {{p: x}}\n"
    if said is None:
        assert load(tmp_path, text)
    else:
        assert said in problem(tmp_path, text)


def test_alias_of_an_alias_is_refused(tmp_path: Path) -> None:
    text = f"{HEAD}images: {{a: b, b: 'python:3', c: c}}\nsteps: [{{name: s, kind: container, image: a}}]\n"
    assert problem(tmp_path, text) == ("3:13: alias 'a' stands for 'b', which is an alias itself; expected an image")


@pytest.mark.parametrize("template", ["{{ 1 / 0 }}", "{{ 'a' * 3 }}", "{{ 'x' | round }}"])
def test_template_that_can_only_fail_is_refused(tmp_path: Path, template: str) -> None:
    text = f'{HEAD}steps: [{{name: s, kind: container, image: i, args: ["{template}"]}}]\n'
    assert problem(tmp_path, text).startswith("3:53: template of step 's': ")


def test_file_of_an_output_is_no_template(tmp_path: Path) -> None:
    outputs = "{o: {type: dataset, file: '{{ ds }}.csv'}}"
    text = f"{HEAD}steps: [{{name: s, kind: container, image: i, outputs: {outputs}}}]\n"
    assert "looks like a template, and a file name is none" in problem(tmp_path, text)
