# SPDX-License-Identifier: Apache-2.0
"""The server brings nobody else's packages with it, and listens to nobody but this machine unless it is told to."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import airflow_mlops.serving.server as package

MODULES = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
ELSEWHERE = (
    "airflow",
    "docker",
    "fsspec",
    "jinja2",
    "jsonschema",
    "kubernetes",
    "mlflow",
    "onnxruntime",
    "pandas",
    "sklearn",
    "skops",
    "yaml",
)


def test_no_module_imports_airflow_or_what_loads_a_model() -> None:
    imports = "\n".join(f"import airflow_mlops.serving.server.{name}" for name in MODULES)
    script = f"import sys\n{imports}\nprint(sorted(set({ELSEWHERE}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
