# SPDX-License-Identifier: Apache-2.0
"""
The model server: one model behind the Open Inference Protocol V2 (REST), in a container of its own. ``python -m airflow_mlops.serving.server``
starts it.

It imports neither Airflow nor docker nor kubernetes, so that its image holds none of them, and a library that loads models only when the model is
one of its kind. Whoever sends requests is not trusted; the model is, once its digest is the one that was asked for and its format is allowed.
"""
