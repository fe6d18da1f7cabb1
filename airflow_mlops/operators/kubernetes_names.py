# SPDX-License-Identifier: Apache-2.0
"""
What pods are named, labelled and annotated with, so that they are found again: by a retry, by ``clean``, and by a platform team.

Labels of Kubernetes are short and take few characters, names of Airflow are long and take any. So the labels that a person selects by are
readable and may be cut; the one that this package selects by is a digest; what was meant stands in annotations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.identity import LABEL

if TYPE_CHECKING:
    from airflow_mlops.operators.identity import TaskIdentity

PREFIX = "mlops.airflow"
MANAGED = f"{PREFIX}/managed"
TASK_INSTANCE = f"{PREFIX}/task-instance"
INSTANCE = f"{PREFIX}/instance"

_LONGEST = 63
_DIGEST = 8
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.-]+")


def label_value(text: str) -> str:
    """A text as the value of a label: itself if it is one, else what can be kept of it, and a digest."""
    kept = _NOT_ALLOWED.sub("-", text).strip("-_.")
    if kept == text and len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{kept[: _LONGEST - _DIGEST - 1].rstrip('-_.')}-{digest}".lstrip("-")


def pod_name(attempt_id: str) -> str:
    """Name of an attempt's pod, and of the secret that belongs to it."""
    return f"mlops-{attempt_id}"


def task_selector(identity: TaskIdentity) -> dict[str, str]:
    """Labels that all pods of a task instance share, whatever the try, and no others."""
    names = "\n".join(f"{name}={value}" for name, value in sorted(identity.task_labels.items()))
    return {MANAGED: "true", TASK_INSTANCE: hashlib.sha256(names.encode()).hexdigest()[:40]}


def labels_of(identity: TaskIdentity, attempt_id: str, kind: str) -> dict[str, str]:
    """Labels of an attempt's pod."""
    readable = {
        "instance": identity.instance,
        "dag": identity.dag_id,
        "run": identity.run_id,
        "task": identity.task_id,
        "kind": kind,
        "attempt": attempt_id,
    }
    return {
        "app.kubernetes.io/managed-by": "airflow-mlops",
        **task_selector(identity),
        **{f"{PREFIX}/{name}": label_value(value) for name, value in readable.items()},
    }


def annotations_of(identity: TaskIdentity, attempt_id: str) -> dict[str, str]:
    """What the labels of a container say on Docker, word by word."""
    return {
        f"{PREFIX}/{name.removeprefix(f'{LABEL}.')}": value
        for name, value in identity.labels(attempt_id).items()
        if value
    }


def annotation(pod: Any, name: str) -> str:
    """One of :func:`annotations_of`; empty if the pod has none of that name."""
    found: Mapping[str, str] = pod.metadata.annotations or {}
    return found.get(f"{PREFIX}/{name}", "")


def is_ours(pod: Any) -> bool:
    """Whether a pod with our labels was made by us: its name and its annotation say the same attempt."""
    return bool(pod.metadata.name == pod_name(annotation(pod, "attempt")))
