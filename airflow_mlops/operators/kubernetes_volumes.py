# SPDX-License-Identifier: Apache-2.0
"""
How files travel where workers and pods see the same volume: not at all. The program reads and writes them where they are.

``[mlops] kubernetes_volumes`` says which folders of a worker are on which volume of the cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.kubernetes_pod import Files, Manifest
from airflow_mlops.operators.policy_pods import SHARED
from airflow_mlops.operators.staging import OPEN_TO_ALL

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.kubernetes import KubernetesStepOperator


def shares_files(attempt: Attempt) -> bool:
    """Whether pods see the worker's files: the store is a folder."""
    return attempt.store.local_path(attempt.key) is not None


def volume_files(operator: KubernetesStepOperator, attempt: Attempt) -> Files:
    """
    Volumes and mounts of a step whose files lie on shared volumes.

    :raises BadStep: if some of them lie elsewhere
    """
    root = operator.layout(attempt).root
    finder = _Finder(attempt)
    mounts = [finder.mount(f"{root}/{name}", path, read_only=False) for name, path in _writable(attempt).items()]
    mounts += [finder.mount(f"{root}/inputs/{name}", path, read_only=True) for name, path in attempt.staged.items()]
    mounts.append(finder.mount(f"{root}/step.json", attempt.step_json, read_only=True))
    mounts.append({"name": "mlops-tmp", "mountPath": operator.layout(attempt).tmp})
    volumes = [*finder.volumes.values(), {"name": "mlops-tmp", "emptyDir": {}}]
    return Files(volumes, mounts)


def open_folders(attempt: Attempt) -> None:
    """Let the program write to its folders: its user is another one than the worker's where that is root."""
    for folder in (*_writable(attempt).values(), *attempt.outputs.iterdir()):
        folder.chmod(OPEN_TO_ALL)


def _writable(attempt: Attempt) -> dict[str, Path]:
    """Folders that the program writes to, by their names in the contract."""
    writable = {"outputs": attempt.outputs}
    if attempt.has_source:
        writable["source"] = attempt.source
    if attempt.checkpoint is not None:
        writable["checkpoint"] = attempt.checkpoint
    return writable


class _Finder:
    """Finds the volume that a path of the worker is on."""

    def __init__(self, attempt: Attempt) -> None:
        self._known = attempt.settings.kubernetes_volumes
        self.volumes: dict[str, Manifest] = {}

    def mount(self, target: str, path: Path, *, read_only: bool) -> Manifest:
        for folder in sorted(self._known, key=len, reverse=True):
            if path.is_relative_to(folder):
                if folder not in self.volumes:
                    self.volumes[folder] = {"name": f"{SHARED}{len(self.volumes)}", **self._known[folder]}
                mount: Manifest = {"name": self.volumes[folder]["name"], "mountPath": target}
                if path != Path(folder):
                    mount["subPath"] = str(path.relative_to(folder))
                return mount | ({"readOnly": True} if read_only else {})
        raise BadStep(
            f"pods do not see {path}: no folder of [mlops] kubernetes_volumes holds it (now: {', '.join(self._known) or 'none'}); "
            "put [mlops] store and work_dir on a volume that workers and pods share, and name it there, or use an object store"
        )
