# SPDX-License-Identifier: Apache-2.0
"""Models behind HTTP. :mod:`airflow_mlops.serving.server` is what runs in the container that answers."""
