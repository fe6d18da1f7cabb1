# SPDX-License-Identifier: Apache-2.0
"""
The contract with a program: where its inputs, outputs, parameters and secrets are, and what its environment says.

The same for every runtime; only the root differs: ``/mlops`` in a container, a folder of the attempt's own for a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.templates import as_text

if TYPE_CHECKING:
    from airflow_mlops.spec.parts import Output

CONTAINER_ROOT = "/mlops"

INHERITED = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH")
"""Variables of the worker that a process gets. Airflow's own, with its connections and keys, are not among them."""


@dataclass(frozen=True)
class Layout:
    """
    The paths of the contract below one root.

    :param root: absolute path as the program sees it
    """

    root: str = CONTAINER_ROOT

    @property
    def outputs(self) -> str:
        return f"{self.root}/outputs"

    @property
    def inputs(self) -> str:
        return f"{self.root}/inputs"

    @property
    def source(self) -> str:
        return f"{self.root}/source"

    @property
    def tmp(self) -> str:
        return f"{self.root}/tmp"  # noqa: S108 - the attempt's own

    @property
    def secrets(self) -> str:
        return f"{self.root}/secrets"

    @property
    def checkpoint(self) -> str:
        return f"{self.root}/checkpoint"

    @property
    def step_json(self) -> str:
        return f"{self.root}/step.json"

    def input(self, name: str, file: str | None) -> str:
        """Where an artifact input lies; ``file`` is the name its producer gave it, if any."""
        return f"{self.inputs}/{name}/{file}" if file else f"{self.inputs}/{name}"

    def output(self, name: str, output: Output) -> str:
        """Where the program must write an output."""
        return f"{self.outputs}/{name}/{output.file}" if output.file else f"{self.outputs}/{name}"


def environment(
    layout: Layout,
    *,
    input_paths: Mapping[str, str],
    parameters: Mapping[str, Any],
    outputs: Mapping[str, Output],
    secret_files: Mapping[str, str],
    checkpoint: bool,
) -> dict[str, str]:
    """
    The variables that the contract promises a program.

    :param input_paths: paths of the staged inputs by name
    :param parameters: declared parameters and parameter inputs by name
    :param secret_files: paths of the secrets that are given as files
    """
    variables = {"HOME": layout.tmp, "USER": "mlops", "TMPDIR": layout.tmp, "MLOPS_STEP_JSON": layout.step_json}
    variables.update({f"MLOPS_INPUT_{name.upper()}": path for name, path in input_paths.items()})
    variables.update({f"MLOPS_PARAM_{name.upper()}": as_text(value) for name, value in parameters.items()})
    variables.update({f"MLOPS_OUTPUT_{name.upper()}": layout.output(name, output) for name, output in outputs.items()})
    variables.update({f"MLOPS_SECRET_{name}": path for name, path in secret_files.items()})
    if checkpoint:
        variables["MLOPS_CHECKPOINT"] = layout.checkpoint
    return variables
