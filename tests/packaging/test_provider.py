# SPDX-License-Identifier: Apache-2.0
"""What the package says of itself is true: to Airflow, to those who import it, and to those who install it."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_mlops
from airflow_mlops.provider import get_provider_info
from tests.parts.images import ROOT, wheels_of_dockerfile

pytestmark = pytest.mark.packaging

DISTRIBUTION = "airflow-provider-mlops"

MODULE_OF = {
    "pyyaml": "yaml",
    "cel-expr-python": "cel_expr_python",
    "protobuf": "google",
    "apache-airflow-providers-cncf-kubernetes": "kubernetes",
    "kubernetes-asyncio": "kubernetes_asyncio",
    "mlflow-skinny": "mlflow",
    "prometheus-client": "prometheus_client",
    "scikit-learn": "sklearn",
    "websocket-client": "websocket",
}
"""Distributions whose module has another name."""
AIRFLOWS_OWN = {"airflow", "asgiref", "attrs", "cadwyn", "fastapi", "sqlalchemy"}
"""Modules that are part of Airflow's programming interface: whatever version it brings is the right one."""
OF_SCIKIT_LEARN = {"joblib", "threadpoolctl"}
"""Modules that scikit-learn itself cannot do without."""


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    """Our packaging, as written."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def canonical(requirement: str) -> str:
    """Return the distribution's name of a requirement, as registries compare names."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


class TestProviderInfo:
    def test_it_is_what_the_entry_point_of_the_installed_package_gives(self) -> None:
        points = importlib.metadata.distribution(DISTRIBUTION).entry_points
        assert [point.load() for point in points if point.group == "apache_airflow_provider"] == [get_provider_info]

    def test_its_package_name_is_the_name_of_the_distribution(self, setup_cfg: configparser.ConfigParser) -> None:
        assert get_provider_info()["package-name"] == setup_cfg["metadata"]["name"] == DISTRIBUTION

    def test_it_is_valid_by_the_schema_of_the_installed_airflow(self) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        core = importlib.metadata.distribution("apache-airflow-core")
        schema = json.loads(Path(str(core.locate_file("airflow/provider_info.schema.json"))).read_text())
        jsonschema.validate(get_provider_info(), schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**get_provider_info(), "config": {"mlops": {"options": {}}}}, schema)

    def test_every_option_is_described_with_an_example_and_the_version_that_added_it(self) -> None:
        options = get_provider_info()["config"]["mlops"]["options"]
        for name, option in options.items():
            assert option["description"].endswith("."), name
            assert option["example"], name
            assert re.fullmatch(r"\d+\.\d+\.\d+", option["version_added"]), name
            assert option["default"] is None or isinstance(option["default"], str), name

    def test_the_options_are_those_that_the_code_reads(self) -> None:
        read = {
            name
            for file in (ROOT / "airflow_mlops").rglob("*.py")
            for name in re.findall(
                r"""(?:_text|_words|_json_object|_flag|_count|_choice|conf\.get\w*)\((?:SECTION, ?)?"(\w+)\"""",
                file.read_text(),
            )
        }
        assert read == set(get_provider_info()["config"]["mlops"]["options"])


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules in a new interpreter after a statement."""
    program = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return set(subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT).split())


class TestImports:
    @pytest.mark.parametrize("module", ["airflow_mlops", "airflow_mlops.provider", "airflow_mlops.spec"])
    def test_importing_it_loads_no_airflow(self, module: str) -> None:
        heavy = {"airflow", "docker", "kubernetes", "pydantic", "s3fs", "sqlalchemy"}
        assert loaded_after(f"import {module}") & heavy <= ({"pydantic"} if module.endswith("spec") else set())

    def test_a_process_operator_loads_no_docker_client(self) -> None:
        loaded = loaded_after("from airflow_mlops import ProcessTrainOperator")
        assert "airflow" in loaded
        assert "docker" not in loaded

    @pytest.mark.parametrize("name", airflow_mlops.__all__)
    def test_every_public_name_is_there(self, name: str) -> None:
        assert getattr(airflow_mlops, name)
        assert name in dir(airflow_mlops)

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
            _ = airflow_mlops.Nothing

    def test_what_the_code_imports_is_what_the_package_requires(self, setup_cfg: configparser.ConfigParser) -> None:
        imported = set()
        for file in (ROOT / "airflow_mlops").rglob("*.py"):
            if "templates" not in file.parts:
                imported |= top_level_imports(ast.parse(file.read_text()))
        lines = setup_cfg["options"]["install_requires"].split("\n")
        for extra in ("kubernetes", "mlflow", "serving"):
            lines += setup_cfg["options.extras_require"][extra].split("\n")
        lines += (ROOT / "serving/requirements.txt").read_text().split("\n")
        names = [canonical(line) for line in lines if line and not line.startswith("#")]
        modules = {MODULE_OF.get(name, name) for name in names}
        required = {module for module in modules if not module.startswith("apache-airflow")} - AIRFLOWS_OWN
        third_party = imported - set(sys.stdlib_module_names) - {"airflow_mlops"} - AIRFLOWS_OWN - OF_SCIKIT_LEARN
        assert third_party - {"pydantic_core"} == required


def top_level_imports(tree: ast.AST) -> set[str]:
    """Return the first parts of all names of modules that a program imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_examples_have_the_same_packages_with_and_without_containers(setup_cfg: configparser.ConfigParser) -> None:
    lines = setup_cfg["options.extras_require"]["examples"].split()
    assert sorted(lines) == sorted(wheels_of_dockerfile())


@pytest.mark.airflow
def test_airflow_finds_the_name_that_it_looks_for_examples_under(caplog: pytest.LogCaptureFixture) -> None:
    manager = pytest.importorskip("airflow.dag_processing.bundles.manager")
    if not hasattr(manager, "_add_provider_example_dags_to_bundle"):
        pytest.skip("this Airflow does not look into providers for examples")
    manager._add_provider_example_dags_to_bundle([])
    assert DISTRIBUTION.replace("-", "_") not in caplog.text
