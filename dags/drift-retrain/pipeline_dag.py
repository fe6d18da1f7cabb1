# SPDX-License-Identifier: Apache-2.0
from airflow_mlops import pipeline_dag  # an Airflow DAG from a pipeline spec

dag = pipeline_dag("pipeline.yaml")  # relative to this file
