# SPDX-License-Identifier: Apache-2.0
"""The pages inside Airflow's UI. Airflow's API server serves them; nothing is loaded before somebody asks for one."""
