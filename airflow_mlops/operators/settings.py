# SPDX-License-Identifier: Apache-2.0
"""What a deployment decides for all steps: the ``[mlops]`` section of Airflow's configuration, read when a task runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow.providers.common.compat.sdk import conf

from airflow_mlops.operators.failures import BadStep

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from airflow_mlops.artifacts.store import FileSystem
    from airflow_mlops.spec.parts import OnDrain

Transfer = Literal["auto", "bind", "volume"]
Verify = Literal["auto", "always", "size", "never"]
RegistryKind = Literal["files", "mlflow"]
Choice = TypeVar("Choice", bound=str)

SECTION = "mlops"


@dataclass(frozen=True)
class Settings:
    """
    The ``[mlops]`` section.

    :param store_url: where artifacts live, an fsspec URL
    :param storage_options: keyword arguments of the store's file system
    :param store_conn_id: Airflow connection that the store's file system is opened with
    :param docker_host_conn_id: Airflow connection of the Docker daemon, unless a step names one
    :param instance: the configured id of this Airflow installation, if any
    :param work_dir: folder for the scratch space of running steps
    :param host_paths: how paths of the worker are called by the Docker daemon, longest prefix first
    :param docker_transfer: ``bind`` mounts, a ``volume`` per attempt, or ``auto``: bind where the daemon sees our files
    :param allowed_operators: patterns of class paths that ``kind: operator`` may name
    :param allowed_volumes: host folders that steps may mount
    :param allowed_runtimes: where programs may run
    :param allowed_networks: networks that containers may join, beside the default one and none
    :param allowed_ipc_modes: IPC namespaces that containers may share
    :param allowed_capabilities: kernel capabilities that containers may ask for
    :param allowed_users: ``root``, where containers may run as root although the worker does not
    :param pids_limit: processes and threads that a container may have
    :param read_only_root: whether a container's own file system is read-only, but for /tmp
    :param on_drain: what becomes of a step's container when its worker shuts down, unless the step says it
    :param verify: how an artifact is compared with what was committed before a step reads it
    :param gpu_devices: ids of the GPUs of the Docker host; a step gets some that no other step holds
    :param gpu_wait: seconds that a step waits for them
    :param daemon_patience: seconds that a Docker daemon may be away while a step's container runs
    :param require_digest: whether images must be named by digest
    :param stager_image: image of what carries files between an object store and a pod
    :param kubernetes_volumes: volumes that workers and pods share: by a worker's folder, the volume as a pod's specification names it
    :param allowed_service_accounts: service accounts that pods may have, beside the namespace's default one
    :param allowed_namespaces: namespaces that steps may name
    :param allowed_secrets: secrets of the cluster that pods may show to a step, beside those that its ``secrets`` say
    :param pod_start_patience: seconds that a pod may take until its program starts
    :param model_registry: where models get names and versions: ``files`` in the store, or an ``mlflow`` server
    :param mlflow_conn_id: Airflow connection of an MLflow server
    :param mlflow_tracking: whether runs are tracked there
    :param deferrable: whether pods are waited for in the triggerer, unless an operator says it
    """

    store_url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    store_conn_id: str | None = None
    docker_host_conn_id: str | None = None
    instance: str | None = None
    work_dir: Path | None = None
    host_paths: Mapping[str, str] = field(default_factory=dict)
    docker_transfer: Transfer = "auto"
    allowed_operators: tuple[str, ...] = ()
    allowed_volumes: tuple[str, ...] = ()
    allowed_runtimes: tuple[str, ...] = ("process", "docker", "kubernetes")
    allowed_networks: tuple[str, ...] = ()
    allowed_ipc_modes: tuple[str, ...] = ()
    allowed_capabilities: tuple[str, ...] = ()
    allowed_users: tuple[str, ...] = ()
    pids_limit: int = 4096
    read_only_root: bool = False
    require_digest: bool = False
    on_drain: OnDrain = "detach"
    daemon_patience: float = 300
    verify: Verify = "auto"
    gpu_devices: tuple[str, ...] = ()
    gpu_wait: float = 3600
    stager_image: str | None = None
    kubernetes_volumes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    allowed_service_accounts: tuple[str, ...] = ()
    allowed_namespaces: tuple[str, ...] = ()
    allowed_secrets: tuple[str, ...] = ()
    pod_start_patience: float = 3600
    deferrable: bool = False
    model_registry: RegistryKind = "files"
    mlflow_conn_id: str | None = None
    mlflow_tracking: bool = True

    def open_store(self) -> Store:
        """The store of this deployment; opening it touches no network."""
        return self.open_url(self.store_url)

    def open_url(self, url: str) -> Store:
        """A place in a store, this deployment's or another, with the credentials that this deployment has; no network is touched."""
        from airflow_mlops.artifacts import Store

        return Store.open(url, storage_options=dict(self.storage_options), file_system=self.file_system(url))

    def file_system(self, url: str) -> FileSystem | None:
        """What makes the file system of a URL, where ``store_conn_id`` has the credentials for it: those of another kind of store are not there."""
        scheme = url.partition("://")[0]
        if self.store_conn_id is None or scheme == "file" or scheme != self.store_url.partition("://")[0]:
            return None
        from airflow_mlops.operators.store_connection import file_system

        return functools.partial(file_system, scheme, self.store_conn_id, dict(self.storage_options))

    def host_path(self, path: Path) -> str:
        """The name that the Docker daemon knows a folder of the worker by."""
        text = str(path)
        for ours in sorted(self.host_paths, key=len, reverse=True):
            if text == ours or text.startswith(ours.rstrip("/") + "/"):
                return self.host_paths[ours].rstrip("/") + text[len(ours.rstrip("/")) :]
        return text


def default_store_url() -> str:
    """A folder in Airflow's home, for an installation on one machine."""
    import os

    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return (home / "mlops").absolute().as_uri()


def load_settings() -> Settings:
    """
    Read the ``[mlops]`` section.

    :raises BadStep: if an option does not have the form it must have
    """
    return Settings(
        store_url=_text("store") or default_store_url(),
        storage_options=_json_object("storage_options"),
        store_conn_id=_text("store_conn_id"),
        docker_host_conn_id=_text("docker_host_conn_id"),
        instance=_text("instance"),
        work_dir=Path(work_dir) if (work_dir := _text("work_dir")) else None,
        host_paths=_json_object("host_paths"),
        docker_transfer=_choice("docker_transfer", "auto", ("auto", "bind", "volume")),
        allowed_operators=_words("allowed_operators"),
        allowed_volumes=_words("allowed_volumes"),
        allowed_runtimes=_words("allowed_runtimes") or Settings.allowed_runtimes,
        allowed_networks=_words("allowed_networks"),
        allowed_ipc_modes=_words("allowed_ipc_modes"),
        allowed_capabilities=_words("allowed_capabilities"),
        allowed_users=_words("allowed_users"),
        pids_limit=_count("pids_limit", 4096),
        read_only_root=_flag("read_only_root"),
        require_digest=_flag("require_digest"),
        on_drain=_choice("on_drain", "detach", ("detach", "stop")),
        verify=_choice("verify", "auto", ("auto", "always", "size", "never")),
        gpu_devices=_words("gpu_devices"),
        gpu_wait=_count("gpu_wait", 3600),
        daemon_patience=_count("daemon_patience", 300),
        stager_image=_text("stager_image"),
        kubernetes_volumes=_json_object("kubernetes_volumes"),
        allowed_service_accounts=_words("allowed_service_accounts"),
        allowed_namespaces=_words("allowed_namespaces"),
        allowed_secrets=_words("allowed_secrets"),
        pod_start_patience=_count("pod_start_patience", 3600),
        deferrable=_flag("deferrable", default=_airflow_defers()),
        model_registry=_choice("model_registry", "files", ("files", "mlflow")),
        mlflow_conn_id=_text("mlflow_conn_id"),
        mlflow_tracking=_flag("mlflow_tracking", default=True),
    )


def configured_environment() -> str | None:
    """The overlay that this deployment applies to every spec, ``[mlops] environment``."""
    return _text("environment")


@functools.cache
def calls_back() -> bool:
    """Whether the callbacks and deadlines of specs are set up here, ``[mlops] callbacks``."""
    return (_text("callbacks") or "true").lower() != "false"


@functools.cache
def allowed_callbacks() -> tuple[str, ...]:
    """Patterns of the import paths that a spec's callbacks may have."""
    return _words("allowed_callbacks")


@functools.cache
def adoption_headroom() -> int:
    """Tries beyond both budgets that a task is given, for those that deploys and drains use up."""
    return int(conf.getint(SECTION, "adoption_headroom", fallback=20))


@functools.cache
def default_infra_retries() -> int:
    """How many infrastructure failures a step survives unless it says otherwise."""
    return int(conf.getint(SECTION, "infra_retries", fallback=3))


def _airflow_defers() -> bool:
    """What Airflow's own operators do unless they are told."""
    return bool(conf.getboolean(section="operators", key="default_deferrable", fallback=False))


def _text(option: str) -> str | None:
    value = conf.get(SECTION, option, fallback=None)
    return str(value).strip() or None if value is not None else None


def _words(option: str) -> tuple[str, ...]:
    return tuple((_text(option) or "").replace(",", " ").split())


def _flag(option: str, *, default: bool = False) -> bool:
    text = (_text(option) or str(default)).lower()
    if text not in ("true", "false"):
        raise BadStep(f"[mlops] {option} is {text!r}; expected true or false")
    return text == "true"


def _count(option: str, default: int) -> int:
    text = _text(option) or str(default)
    if not text.isdigit() or not int(text):
        raise BadStep(f"[mlops] {option} is {text!r}; expected a number above zero")
    return int(text)


def _json_object(option: str) -> dict[str, Any]:
    text = _text(option)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadStep(
            f'[mlops] {option} is not JSON: {error}; expected an object such as {{"key": "value"}}'
        ) from error
    if not isinstance(value, dict):
        raise BadStep(f"[mlops] {option} is a JSON {type(value).__name__}; expected an object")
    return value


def _choice(option: str, default: Choice, choices: tuple[Choice, ...]) -> Choice:
    value = _text(option) or default
    for choice in choices:
        if value == choice:
            return choice
    raise BadStep(f"[mlops] {option} is {value!r}; expected one of {', '.join(choices)}")
