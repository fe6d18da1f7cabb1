# SPDX-License-Identifier: Apache-2.0
"""
Nothing but a name: the one under which Airflow looks for the example DAGs of a provider called ``airflow-provider-mlops``.

Without it, a DAG processor that loads examples logs a traceback for this provider
(https://github.com/apache/airflow/issues/66305). The package itself is :mod:`airflow_mlops`.
"""
