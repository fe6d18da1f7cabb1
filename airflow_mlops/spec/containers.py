# SPDX-License-Identifier: Apache-2.0
"""What no container engine takes, whatever image runs: told when a spec is read, not by a task at night."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_mlops.spec.documents import KEY
from airflow_mlops.spec.forms import cut
from airflow_mlops.spec.passthrough import check_docker
from airflow_mlops.spec.pod_keywords import check_kubernetes
from airflow_mlops.spec.quantities import format_bytes

if TYPE_CHECKING:
    from airflow_mlops.spec.models import StepSpec

Problem = tuple[tuple[Any, ...], str]

MIN_MEMORY = 6 << 20
"""Bytes; the daemon refuses less (moby, daemon/daemon_unix.go)."""

MIN_CPU = 0.01
"""Cores; the daemon refuses less (ditto)."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
# The grammar of github.com/distribution/reference.
_IMAGE = re.compile(
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    rf"{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


@lru_cache(maxsize=256)
def _is_image(image: str) -> bool:
    """Whether a text is the name of an image, or a template, of which nothing is known yet."""
    return "{" in image or _IMAGE.fullmatch(image[:1024]) is not None


def check_container(spec: StepSpec) -> Iterator[Problem]:
    """
    What is wrong with a step that runs in a container.

    :return: where in the step, and the problem
    """
    if spec.image is not None and not _is_image(spec.image):
        yield (
            ("image",),
            f"step '{spec.name}': {cut(spec.image)} is no image; expected a name such as python:3.12 or ghcr.io/team/train:1",
        )
    memory, cpu = spec.resources.memory, spec.resources.cpu
    if memory is not None and memory < MIN_MEMORY:
        yield (
            ("resources", "memory"),
            f"step '{spec.name}': memory of {format_bytes(memory)} is too little for a container; expected 6Mi or more",
        )
    if cpu is not None and cpu < MIN_CPU:
        yield (
            ("resources", "cpu"),
            f"step '{spec.name}': {cpu:g} cores are too few for a container; expected 0.01 or more",
        )
    targets: set[str] = set()
    for index, volume in enumerate(spec.volumes):
        target = "/".join(filter(None, volume.target.split("/")))
        if target in targets:
            yield (
                ("volumes", index, "target"),
                f"step '{spec.name}': {cut(volume.target)} is the target of two volumes; expected one volume for each place",
            )
        targets.add(target)
    for name, message in check_docker(spec.docker):
        yield ("docker", name, KEY), message
    for name, message in check_kubernetes(spec.kubernetes):
        yield ("kubernetes", name, KEY), message
