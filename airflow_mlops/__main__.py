# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_mlops``: the command line, where no script is on the PATH."""

from __future__ import annotations

import sys

from airflow_mlops.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
