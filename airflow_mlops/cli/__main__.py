# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_mlops.cli``, where the ``airflow-mlops`` script is not on the PATH."""

from __future__ import annotations

import sys

from airflow_mlops.cli.main import main

sys.exit(main())
