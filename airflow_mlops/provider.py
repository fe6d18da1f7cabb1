# SPDX-License-Identifier: Apache-2.0
"""
What Airflow learns about this package when it looks for providers.

Every Airflow process reads this, so nothing is imported here. Airflow refuses *all* providers if ``package-name`` is
not the name of the installed distribution.
"""

from __future__ import annotations

from typing import Any

_ADDED = "0.1.0"


def _option(
    description: str, kind: str = "string", default: str | None = None, *, example: str, sensitive: bool = False
) -> dict[str, Any]:
    """Return one option as Airflow's configuration describes it: defaults are text, whatever the type."""
    option: dict[str, Any] = {
        "description": description,
        "version_added": _ADDED,
        "type": kind,
        "example": example,
        "default": default,
    }
    return {**option, "sensitive": True} if sensitive else option


_OPTIONS = {
    "store": _option(
        "Where artifacts live: an fsspec URL that every worker reaches. Empty: the folder mlops in Airflow's home, "
        "enough for one machine.",
        example="s3://acme-mlops/airflow",
    ),
    "storage_options": _option(
        "Keyword arguments of the store's fsspec file system, as a JSON object.",
        example='{"client_kwargs": {"endpoint_url": "https://s3.acme.example"}}',
        sensitive=True,
    ),
    "store_conn_id": _option(
        "Airflow connection that the store's file system is opened with, as the provider of that connection does it "
        "(s3:// needs apache-airflow-providers-amazon). Empty: storage_options, and what the worker's environment holds.",
        example="aws_mlops",
    ),
    "model_registry": _option(
        "Where registered models get their names and versions: files, in the store, or mlflow, the registry of the server of "
        "mlflow_conn_id (needs airflow-provider-mlops[mlflow] where tasks run). Their files lie in the store in any case.",
        default="files",
        example="mlflow",
    ),
    "mlflow_conn_id": _option(
        "Airflow connection of an MLflow server: its address as the host, and login and password, or a token as the password. Runs are "
        "tracked there. Steps that call MLflow themselves get the address and the credentials.",
        example="mlflow",
    ),
    "mlflow_tracking": _option(
        "Whether runs are tracked on the server of mlflow_conn_id.", "boolean", "true", example="false"
    ),
    "instance": _option(
        "Id of this Airflow installation; it is part of every path, label and container name, so that two Airflows "
        "that share a store or a Docker daemon never touch each other's work. "
        "Required unless the store is file://, where one is made and kept.",
        example="acme-prod",
    ),
    "environment": _option(
        "The environment (overlay) of a spec that is applied unless the DAG file names one.", example="prod"
    ),
    "host_paths": _option(
        "How the Docker daemon's host calls the folders of a worker that is a container itself: a JSON object, path "
        "here to path there.",
        example='{"/opt/airflow/work": "/srv/airflow/work"}',
    ),
    "docker_transfer": _option(
        "How files get into and out of a step's container: bind (mounted from the worker), volume (streamed to and "
        "from a volume of the attempt) or auto (bind where the daemon sees the worker's files, else volume).",
        default="auto",
        example="volume",
    ),
    "docker_host_conn_id": _option(
        "Airflow connection of the Docker daemon that runs the containers of steps, unless a step names another one: "
        "host and port, and in its extra ca_cert, client_cert and client_key (PEM text or paths) and verify. "
        "Empty: DOCKER_HOST, or the local socket.",
        example="docker_training",
    ),
    "work_dir": _option(
        "Folder for the files of running steps. Empty: a folder of the system's temporary files.",
        example="/var/lib/airflow/mlops",
    ),
    "allowed_operators": _option(
        "Class paths that a step of kind operator may name, separated by spaces or commas; * stands for any text. "
        "Empty: none.",
        example="airflow.providers.apache.spark.operators.* airflow.providers.ssh.operators.*",
    ),
    "allowed_callbacks": _option(
        "Import paths that a spec may name as callbacks, separated by spaces or commas; * stands for any text. Empty: none.",
        example="acme_alerts.* airflow.providers.smtp.notifications.*",
    ),
    "callbacks": _option(
        "Whether the callbacks and deadlines of specs are set up; false for an Airflow that is to wake nobody.",
        "boolean",
        "true",
        example="false",
    ),
    "allowed_volumes": _option(
        "Folders of the worker's host that a step may mount or import from, separated by spaces or commas. Empty: "
        "none.",
        example="/data/public /mnt/features",
    ),
    "allowed_runtimes": _option(
        "Where programs of steps may run, separated by spaces or commas. Without process, none runs on a worker itself.",
        default="process docker kubernetes",
        example="docker",
    ),
    "allowed_networks": _option(
        "Docker networks that a step may join beside the default one and none, separated by spaces or commas; * stands "
        "for any text. host shares the host's network. Empty: no others.",
        example="mlflow feature-store",
    ),
    "allowed_ipc_modes": _option(
        "IPC namespaces that a step's container may share, separated by spaces or commas; host is the host's. Empty: "
        "none.",
        example="host",
    ),
    "allowed_capabilities": _option(
        "Kernel capabilities that a step may ask for with cap_add, separated by spaces or commas. A container has no "
        "others. Empty: none.",
        example="CHOWN NET_BIND_SERVICE",
    ),
    "allowed_users": _option(
        "root, where steps may run as root in their containers although the worker does not. Empty: they may not.",
        example="root",
    ),
    "pids_limit": _option(
        "How many processes and threads the container of a step may have.", "integer", "4096", example="1024"
    ),
    "read_only_root": _option(
        "Whether the file system of a step's image is read-only, but for /tmp and what the step is given to write to.",
        "boolean",
        "false",
        example="true",
    ),
    "require_digest": _option(
        "Whether a step's image must be named by its digest, so that nobody can change what runs.",
        "boolean",
        "false",
        example="true",
    ),
    "on_drain": _option(
        "What becomes of a step's container when its worker shuts down, unless the step says it: detach (it goes on, and "
        "the next try follows it) or stop.",
        default="detach",
        example="stop",
    ),
    "daemon_patience": _option(
        "How many seconds a Docker daemon or a Kubernetes API server may be away while a step's program runs, and a registry "
        "while its image is fetched, before the try fails; the next try follows the program.",
        "integer",
        "300",
        example="900",
    ),
    "stager_image": _option(
        "Image of the containers that carry files between an object store and a step's pod, built from stager/Dockerfile of this "
        "package. Needed by steps on Kubernetes unless the store is a folder on a volume that pods share.",
        example="registry.example.com/mlops-stager:1",
    ),
    "kubernetes_volumes": _option(
        "Volumes that workers and pods share, as a JSON object: a folder of the worker, and the volume as a pod's "
        "specification names it. Steps on Kubernetes then read and write their files where they are.",
        example='{"/shared": {"persistentVolumeClaim": {"claimName": "mlops"}}}',
    ),
    "allowed_service_accounts": _option(
        "Service accounts that a step's pod may have beside the namespace's default one, separated by spaces or commas; * stands "
        "for any text. Empty: no others.",
        example="mlops-steps",
    ),
    "allowed_namespaces": _option(
        "Namespaces that a step's pod may name, separated by spaces or commas; * stands for any text. Empty: none, so that pods are where the "
        "connection says, or the worker itself is.",
        example="ml team-*",
    ),
    "allowed_secrets": _option(
        "Secrets of the cluster that a step's pod may show to its program, separated by spaces or commas; * stands for any text. "
        "What a step's secrets say needs none of them. Empty: none.",
        example="team-*",
    ),
    "pod_start_patience": _option(
        "How many seconds a step's pod may take until its program starts, waiting for a node among others, before the try fails.",
        "integer",
        "3600",
        example="86400",
    ),
    "deferrable": _option(
        "Whether steps on Kubernetes are waited for in the triggerer and hold no worker meanwhile; true or false. Empty: as "
        "[operators] default_deferrable.",
        example="true",
    ),
    "verify": _option(
        "How an artifact is compared with what was committed, before a step reads it: always (its content), size, never, or "
        "auto: always up to 1 GB, else size.",
        default="auto",
        example="always",
    ),
    "gpu_devices": _option(
        "Ids of the GPUs of the worker's Docker host, separated by spaces or commas. A step that asks for GPUs gets some that no "
        "other step of that host holds. Empty: Docker chooses, and two steps may share a GPU.",
        example="0 1 2 3",
    ),
    "gpu_wait": _option(
        "How many seconds a step waits until enough of gpu_devices are free.", "integer", "3600", example="600"
    ),
    "infra_retries": _option(
        "How many failures of the infrastructure (a worker or daemon that goes away) a step survives beside its own "
        "retries.",
        "integer",
        "3",
        example="5",
    ),
    "adoption_headroom": _option(
        "Further tries that Airflow may use for deploys and drains, which end a try but not its container. They "
        "cost a step nothing.",
        "integer",
        "20",
        example="50",
    ),
}


def get_provider_info() -> dict[str, Any]:
    """Return the description that the ``apache_airflow_provider`` entry point promises."""
    return {
        "package-name": "airflow-provider-mlops",
        "name": "MLOps pipelines",
        "description": "Machine learning pipelines from a spec: steps in containers or processes, typed artifacts "
        "between them.",
        # Airflow 3.1 does not look for commands.
        "cli": ["airflow_mlops.cli.airflow_commands.commands"],
        "config": {
            "mlops": {"description": "Pipelines, their artifacts and how their steps run.", "options": _OPTIONS}
        },
    }
