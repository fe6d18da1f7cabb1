# SPDX-License-Identifier: Apache-2.0
"""What a step of kind ``register`` hands on."""

from __future__ import annotations

from airflow_mlops.spec.parts import Output

REGISTERED = {
    "model": Output.model_construct(type="model"),
    "version": Output.model_construct(type="integer"),
    "reference": Output.model_construct(type="string"),
    "created": Output.model_construct(type="boolean"),
}
"""The version in the registry, its number, the reference that names it, and whether it is new."""
