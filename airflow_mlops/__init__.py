# SPDX-License-Identifier: Apache-2.0
"""
Machine learning pipelines on Airflow: a spec becomes a DAG whose steps run as containers, pods or processes and hand on typed
artifacts.

Names are loaded on first use: provider discovery and the spec tools import this package in processes that must not pay
for an Airflow, and a DAG without a Docker step must not import the Docker client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.cli.reading import read
    from airflow_mlops.factory import pipeline_dag
    from airflow_mlops.operators import (
        DockerContainerOperator,
        DockerEvaluateOperator,
        DockerPredictOperator,
        DockerPreprocessOperator,
        DockerStepOperator,
        DockerTrainOperator,
        KubernetesContainerOperator,
        KubernetesEvaluateOperator,
        KubernetesPredictOperator,
        KubernetesPreprocessOperator,
        KubernetesStepOperator,
        KubernetesTrainOperator,
        ProcessContainerOperator,
        ProcessEvaluateOperator,
        ProcessPredictOperator,
        ProcessPreprocessOperator,
        ProcessStepOperator,
        ProcessTrainOperator,
    )

    __version__: str

__all__ = [
    "DockerContainerOperator",
    "DockerEvaluateOperator",
    "DockerPredictOperator",
    "DockerPreprocessOperator",
    "DockerStepOperator",
    "DockerTrainOperator",
    "KubernetesContainerOperator",
    "KubernetesEvaluateOperator",
    "KubernetesPredictOperator",
    "KubernetesPreprocessOperator",
    "KubernetesStepOperator",
    "KubernetesTrainOperator",
    "ProcessContainerOperator",
    "ProcessEvaluateOperator",
    "ProcessPredictOperator",
    "ProcessPreprocessOperator",
    "ProcessStepOperator",
    "ProcessTrainOperator",
    "__version__",
    "pipeline_dag",
    "read",
]

_HOMES = {"pipeline_dag": "factory", "read": "cli.reading"}
"""Where names are that are not operators."""


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("airflow-provider-mlops")  # said in setup.cfg alone
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'operators')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
