# SPDX-License-Identifier: Apache-2.0
"""From a spec to a DAG."""

from __future__ import annotations

from airflow_mlops.factory.pipelines import pipeline_dag

__all__ = ["pipeline_dag"]
