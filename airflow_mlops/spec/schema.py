# SPDX-License-Identifier: Apache-2.0
"""
The published JSON Schema of a spec, made from the models; editors complete and check with it.

It says what form alone can say. Kinds' demands, references and templates are checked by :func:`load_pipeline`.
Run as a module, it writes the committed copy anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_mlops.spec.models import PipelineSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE = Path(__file__).parent / "schemas" / "pipeline.schema.json"


def spec_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a spec file."""
    schema = PipelineSpec.model_json_schema(by_alias=True, mode="validation")
    schema["patternProperties"] = {"^x-": {"description": "Free: a home for YAML anchors"}}
    _tidy(schema)
    return {
        "$schema": DIALECT,
        "title": "airflow-mlops pipeline",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(spec_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> None:
    """Drop what says nothing to an editor: generated titles, and OpenAPI's discriminators."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    elif isinstance(node, dict):
        node.pop("discriminator", None)
        if "patternProperties" in node:
            node.setdefault("additionalProperties", False)
        if isinstance(node.get("title"), str):
            del node["title"]
        for key, value in node.items():
            if key not in ("default", "enum", "const"):
                _tidy(value)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
