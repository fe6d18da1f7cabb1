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

from airflow_mlops.operators.identity import LABEL, SHELL

if TYPE_CHECKING:
    from airflow_mlops.operators.identity import TaskIdentity

PREFIX = "mlops.airflow"
MANAGED = f"{PREFIX}/managed"
TASK_INSTANCE = f"{PREFIX}/task-instance"
INSTANCE = f"{PREFIX}/instance"
STOP_GRACE = "stop-grace"
"""Name of the annotation that says how long a program has between SIGTERM and SIGKILL; the pod's own grace covers its uploads, too."""

ATTEMPT = f"{LABEL}.attempt"

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


def selector_of(labels: Mapping[str, str]) -> str:
    """Labels as the API server is asked for what has them."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def labels_of(identity: TaskIdentity, attempt_id: str, kind: str) -> dict[str, str]:
    """Labels of an attempt's pod. What somebody looks around in has none of a task: no try may take it for an attempt of its own."""
    words = identity.labels(attempt_id)
    of_task = {**task_selector(identity), f"{PREFIX}/kind": label_value(kind)} if words.get(ATTEMPT) else {}
    return {
        "app.kubernetes.io/managed-by": "airflow-mlops",
        MANAGED: "true",
        **of_task,
        **{
            f"{PREFIX}/{name}": label_value(value)
            for name in ("instance", "dag", "run", "task", "attempt", "shell")
            if (value := words.get(f"{LABEL}.{name}"))
        },
    }


def annotations_of(identity: TaskIdentity, attempt_id: str) -> dict[str, str]:
    """What the labels of a container say on Docker, word by word."""
    return {
        f"{PREFIX}/{name.removeprefix(f'{LABEL}.')}": value
        for name, value in identity.labels(attempt_id).items()
        if value
    }


def words_of(annotations: Mapping[str, str] | None) -> dict[str, str]:
    """What :func:`annotations_of` was made of: labels as a container has them."""
    return {
        f"{LABEL}.{name.removeprefix(f'{PREFIX}/')}": value
        for name, value in (annotations or {}).items()
        if name.startswith(f"{PREFIX}/")
    }


def annotation(pod: Any, name: str) -> str:
    """One of :func:`annotations_of`; empty if the pod has none of that name."""
    found: Mapping[str, str] = pod.metadata.annotations or {}
    return found.get(f"{PREFIX}/{name}", "")


def is_ours(pod: Any) -> bool:
    """Whether a pod with our labels was made by us: its name and its annotation say the same attempt."""
    return is_named_by(pod.metadata.name, words_of(pod.metadata.annotations))


def is_named_by(name: str, words: Mapping[str, str]) -> bool:
    """Whether a pod or a secret has the name that its own annotations give it: that of its attempt, or of a visit."""
    return name == pod_name(words.get(ATTEMPT) or words.get(SHELL) or "")
