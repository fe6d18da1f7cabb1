# SPDX-License-Identifier: Apache-2.0
"""The name of the one task that a DAG may have besides those of its steps; whoever shows tasks as steps leaves it out."""

OUTCOME = "run_outcome"
"""No step can be called so: their names have no underscore."""
