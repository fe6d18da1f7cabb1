# SPDX-License-Identifier: Apache-2.0
"""
The tables of ``docs/spec.md``, made from the models of the spec, so that the reference cannot say other than the code.

``python -m tests.dags.spec_tables`` writes them anew between their markers; a test holds the page against them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec import models, parts, scheduling

if TYPE_CHECKING:
    from pydantic import BaseModel

PAGE = Path(__file__).parents[2] / "docs" / "spec.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

LINKED = {
    "InputSpec": "input",
    "Output": "output",
    "Secret": "secret",
    "Resources": "resources",
    "Backoff": "backoff",
    "Volume": "volume",
    "Process": "process",
    "OperatorCall": "operator",
    "BestBy": "measure",
    "Assignee": "assignee",
    "ParamSpec": "parameter",
    "Overlay": "environment",
    "StepOptions": "step options",
    "StepSpec": "step",
    "GroupSpec": "group",
    "Schedule": "schedule",
    "Deadline": "deadline",
    "Callback": "callback",
    "RunCallbacks": "run callbacks",
    "StepCallbacks": "step callbacks",
}
"""What a construct is called in the page; its heading has the same name."""

SHOWN = {"AssetsAny": "`{any: […]}`", "AssetsAll": "`{all: […]}`"}
"""Constructs that say all with one key."""


def table(model: type[BaseModel]) -> str:
    """The keys of one construct as a Markdown table."""
    schema = model.model_json_schema(by_alias=True)
    if "$ref" in schema:  # a construct that holds itself, as groups do
        schema = schema["$defs"][model.__name__]
    schema = next((form for form in schema.get("anyOf", ()) if "properties" in form), schema)
    inherited = set(models.StepOptions.model_fields) if model is models.StepSpec else set()
    required = set(schema.get("required", ()))
    one_of_them = {name for form in schema.get("anyOf", ()) for name in form.get("required", ())}
    rows = ["| key | value | default | what |", "|---|---|---|---|"]
    for name, form in schema["properties"].items():
        if name not in inherited:
            # An overlay has no defaults: what it does not say stays as it is.
            default = "" if model is models.Overlay else _default(form)
            default = "**required**" if name in required else "**one of them**" if name in one_of_them else default
            rows.append(f"| `{name}` | {_cell(value_of(form))} | {default} | {_cell(form.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def value_of(form: dict[str, Any]) -> str:
    """What may stand for a value of a JSON Schema, in a few words."""
    if "$ref" in form:
        name = form["$ref"].rsplit("/", 1)[-1]
        return f"[{LINKED[name]}](#{LINKED[name].replace(' ', '-')})" if name in LINKED else SHOWN[name]
    if "const" in form or "enum" in form:
        return ", ".join(f"`{value}`" for value in form.get("enum") or [form["const"]])
    for key in ("anyOf", "oneOf"):
        if key in form:
            choices = dict.fromkeys(value_of(part) for part in form[key] if part.get("type") != "null")
            if "number" in choices:
                choices.pop("integer", None)
            return " or ".join(choices)
    if form.get("type") == "array":
        return f"list of {value_of(form.get('items', {}))}"
    inner = next(iter(form.get("patternProperties", {}).values()), form.get("additionalProperties"))
    if isinstance(inner, dict):
        return f"mapping to {value_of(inner)}"
    kind = str(form.get("type", "any value"))
    return "mapping" if kind == "object" else kind


def _default(form: dict[str, Any]) -> str:
    default = form.get("default")
    return "" if default in (None, "", [], {}) and default is not False else f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    parts = text.replace("|", "\\|").replace("\n", " ").split("`")
    return "`".join(
        part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts)
    )  # code is shown as it is


def _model(name: str) -> type[BaseModel]:
    return next(getattr(module, name) for module in (parts, scheduling, models) if hasattr(module, name))


def filled(page: str) -> str:
    """The page with every table made anew."""
    return MARKED.sub(lambda match: f"{match[1]}{table(_model(match[2]))}{match[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
