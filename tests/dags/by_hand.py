# SPDX-License-Identifier: Apache-2.0
"""
A step's program run by hand: folders and variables as the contract promises them, and no pipeline anywhere near.

What passes here proves that the examples' code needs the contract alone. Paths and templates come from the spec file,
so a step cannot be tested with other names than it is given in a run.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.parts.requirement import required_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXAMPLES = Path(__file__).parents[2] / "dags"
TEMPLATE = re.compile(r"{{ *(\S+?)(?: *\| *default\((\S+?)\))? *}}")


def need_sklearn() -> None:
    """Skip a test whose step code cannot run here; where parts are required, fail it."""
    if importlib.util.find_spec("skops") is None or importlib.util.find_spec("sklearn") is None:
        reason = "the step code of this example needs them; run: uv pip install scikit-learn pandas skops"
        (pytest.fail if required_parts() else pytest.skip)(reason)


class Failed(Exception):
    """A step's program ended with another exit code than 0; the message is what it printed."""


@dataclass
class Example:
    """
    An example whose steps are run one by one.

    :param name: folder below ``dags/``
    :param folder: scratch folder
    :param params: pipeline parameters that differ from their defaults
    """

    name: str
    folder: Path
    params: Mapping[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    """What the steps have made so far: paths of artifacts and values of parameters, by ``step.output``; what steps import is there before."""

    def __post_init__(self) -> None:
        self.file = EXAMPLES / self.name / "pipeline.yaml"
        self.spec = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        self.steps = dict(_flat(self.spec["steps"], ""))

    def run_all(self) -> None:
        """Run every step, in the order of the file."""
        for name in self.steps:
            self.run(name)

    def run(self, name: str) -> str:
        """
        Run one step and take its outputs.

        :returns: what the program printed
        :raises Failed: if it did not end with 0
        """
        step = self.steps[name]
        if step["kind"] == "pick":
            return self._pick(name, step)
        if step["kind"] == "gate":
            return "open"
        if step["kind"] == "approve":
            return "approved"
        if step["kind"] == "import":
            return f"imported {self.made[name + '.' + str(step['type'])]}"
        if step["kind"] == "register":
            self.made[f"models:{step['model']}@{step['alias']}"] = self._found(name, step["inputs"]["model"])
            self.made[f"{name}.version"] = 1
            return "registered"
        outputs = {output: self._output(name, output, form) for output, form in step["outputs"].items()}
        inputs = {
            key: self._found(name, form["from"])
            for key, form in _long_forms(step.get("inputs", {})).items()
            if form["from"] in self.made or not form.get("optional")
        }
        paths = {key: value for key, value in inputs.items() if isinstance(value, Path)}
        values = {key: self._param(key) for key in step.get("params", [])}
        values |= {key: value for key, value in inputs.items() if key not in paths}
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            **{f"MLOPS_OUTPUT_{key.upper()}": str(path) for key, path in outputs.items()},
            **{f"MLOPS_INPUT_{key.upper()}": str(path) for key, path in paths.items()},
            **{f"MLOPS_PARAM_{key.upper()}": _text(value) for key, value in values.items()},
        }
        names = {f"inputs.{key}": value for key, value in inputs.items()}
        names |= {f"inputs.{key}.path": path for key, path in paths.items()}
        names |= {f"inputs.{key}.metadata.version": 1 for key in paths}
        names |= {f"inputs.{key}.metadata.registered_at": time.time() for key in paths}
        names |= {f"outputs.{key}.path": path for key, path in outputs.items()}
        command = [TEMPLATE.sub(lambda match: _text(_value(match, names)), word) for word in step["command"]]
        done = subprocess.run(  # noqa: S603 - the example's own program
            command,
            cwd=self.file.parent / "src",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        for output, path in outputs.items():
            self.made[f"{name}.{output}"] = self._taken(step["outputs"][output], path)
        return done.stdout

    def _pick(self, name: str, step: dict[str, Any]) -> str:
        """What ``pick`` does: the first of those with the largest number."""
        inside, _, key = step["by"].removeprefix("max(").removesuffix(")").rpartition(".")
        winner = max(step["from"], key=lambda candidate: self.metrics(f"{candidate}/{inside}")[key])
        self.made |= {f"{name}.{output}": self.made[f"{winner}/{made}"] for output, made in step["outputs"].items()}
        self.made[f"{name}.winner"] = winner
        return f"{winner} wins"

    def _found(self, reader: str, reference: str) -> Any:
        """What a reference means: looked up in the reader's own group, then outwards."""
        if reference.startswith("models:"):
            return self.made[reference]
        group = reader
        while group:
            group = group.rpartition("/")[0]
            if (whole := f"{group}/{reference}".lstrip("/")) in self.made:
                return self.made[whole]
        raise Failed(f"{reader}: nobody has made {reference}")

    def metrics(self, reference: str) -> dict[str, Any]:
        """A metrics output, read as strictly as the product reads it: NaN and Infinity are refused."""
        text = Path(self.made[reference]).read_text(encoding="utf-8")
        return dict(json.loads(text, parse_constant=_refuse))

    def _output(self, step: str, name: str, form: Any) -> Path:
        folder = self.folder / step / "outputs"
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(form, dict) and "file" in form:
            (folder / name).mkdir(exist_ok=True)
            return folder / name / str(form["file"])
        return folder / name

    def _taken(self, form: Any, path: Path) -> Any:
        kind = form if isinstance(form, str) else form["type"]
        if kind == "string":
            return path.read_text(encoding="utf-8").removesuffix("\n")
        if kind in ("integer", "number", "boolean", "list", "object"):
            return json.loads(path.read_text(encoding="utf-8"))
        if not path.exists():
            raise Failed(f"{path} was not made")
        return path

    def _param(self, name: str) -> Any:
        declared = self.spec["params"][name]
        return self.params.get(name, declared["default"] if isinstance(declared, dict) else declared)


def _flat(steps: list[dict[str, Any]], group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Steps by their path."""
    for step in steps:
        path = f"{group}{step['name']}"
        if "steps" in step:
            yield from _flat(step["steps"], f"{path}/")
        else:
            yield path, step


def _long_forms(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: {"from": form} if isinstance(form, str) else form for key, form in inputs.items()}


def _value(match: re.Match[str], names: Mapping[str, Any]) -> Any:
    """What a template stands for: a name, or else its default, which is a name or a number."""
    if match[2] is None:
        return names[match[1]]
    return names.get(match[1], names.get(match[2], match[2]))


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)
