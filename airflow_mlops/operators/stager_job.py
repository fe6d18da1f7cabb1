# SPDX-License-Identifier: Apache-2.0
"""
What the stager of a pod is told: which objects to bring, where the outputs go, and how to open the buckets.

The job itself holds no secrets and stands in the pod's specification; credentials go into a secret that the stager's containers alone see.
``stager/job.go`` reads it; a pod that was started by an older release carries the job of that release, and its stager.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_mlops.artifacts.layout import STEP
from airflow_mlops.artifacts.uploads import RECORD
from airflow_mlops.operators.adoption import STOPPED
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.verification import READ_UP_TO

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlops.artifacts import Artifact, Store
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.operators.base import StepOperator
    from airflow_mlops.operators.settings import Settings

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "abfs": "azblob", "abfss": "azblob", "az": "azblob"}
"""fsspec's names for kinds of stores, and those of the library that the stager uses (gocloud.dev)."""

STAGED = "staged"
"""In an attempt's folder: inputs that the worker alone could reach."""


def job_of(
    operator: StepOperator, attempt: Attempt, local_inputs: Mapping[str, str], seal_key: str | None = None
) -> str:
    """
    The job of an attempt, as JSON.

    :param local_inputs: keys in the store of inputs that the worker had to bring there, by name
    :param seal_key: where the seal lies in the store; ``None``: in the attempt's own folder
    """
    bucket, prefix = place_of(attempt.store.url, attempt.settings)

    def whole(key: str) -> str:
        return f"{prefix}/{key}" if prefix else key

    place = attempt.identity.place
    job: dict[str, Any] = {
        "version": 2,
        "root": operator.layout(attempt).root,
        "in": [_input(name, artifact, attempt, local_inputs) for name, artifact in staged(attempt).items()],
        "files": [{"bucket": bucket, "key": whole(seal_key or f"{attempt.key}/{STEP}"), "path": STEP, "digest": ""}],
        "source": None,
        "checkpoint": None,
        "out": {
            "bucket": bucket,
            "key": whole(attempt.key),
            "record": RECORD,
            "seal": STEP,
            "stopped": STOPPED,
            "outputs": {name: output.file or "" for name, output in operator.outputs.items() if output.uri is None},
        },
    }
    if attempt.source_digest is not None:
        key = whole(f"{place.source_key}/{attempt.source_digest.replace(':', '-')}.tar")
        job["source"] = {"bucket": bucket, "key": key, "path": "source", "digest": attempt.source_digest}
    if operator.checkpoint:
        job["checkpoint"] = {"bucket": bucket, "key": whole(place.checkpoint_key)}
    return json.dumps(job, separators=(",", ":"), ensure_ascii=False)


def staged(attempt: Attempt) -> dict[str, Artifact]:
    """The artifacts that the program gets as files."""
    inputs = attempt.inputs
    if inputs is None:
        return {}
    return {name: artifact for name, artifact in inputs.artifacts.items() if name not in inputs.unstaged}


def _input(name: str, artifact: Artifact, attempt: Attempt, local_inputs: Mapping[str, str]) -> dict[str, Any]:
    uri = attempt.store.uri(local_inputs[name]) if name in local_inputs else artifact.uri
    bucket, key = place_of(uri, attempt.settings)
    how, known = attempt.settings.verify, artifact.digest.startswith("sha256")
    reads = how == "always" or (how == "auto" and (artifact.size or 0) <= READ_UP_TO)
    return {
        "bucket": bucket,
        "key": key,
        "path": f"{name}/{artifact.file}" if artifact.file else name,
        "uri": artifact.uri,
        "digest": artifact.digest if known and reads else "",
        "size": artifact.size if known and how != "never" else None,
    }


def place_of(uri: str, settings: Settings) -> tuple[str, str]:
    """
    The bucket of a URI as the stager opens it, and the key in it.

    :raises BadStep: if the stager knows no such store
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in SCHEMES:
        raise BadStep(
            f"{uri} cannot be brought into a pod: the stager knows {', '.join(sorted(SCHEMES))}; use one of these as [mlops] store, "
            "or a folder that pods see ([mlops] kubernetes_volumes)"
        )
    bucket, _, key = rest.partition("/")
    if set(bucket) & set("?#&%"):
        raise BadStep(f"{uri} names no bucket; expected {scheme}://bucket/key, without options")
    # abfs://container@account.dfs.core.windows.net/…
    bucket = bucket.partition("@")[0] if SCHEMES[scheme] == "azblob" else bucket
    options = urlencode(bucket_options(settings)) if SCHEMES[scheme] == "s3" else ""
    return f"{SCHEMES[scheme]}://{bucket}{f'?{options}' if options else ''}", key


def bucket_options(settings: Settings) -> dict[str, str]:
    """What S3's protocol needs to know beside credentials: where the server is, in which region, and how it names buckets."""
    options, connection = settings.storage_options, _connection_settings(settings)
    client = options.get("client_kwargs") or {}
    endpoint = options.get("endpoint_url") or client.get("endpoint_url") or connection.get("endpoint_url")
    found = {"region": client.get("region_name") or connection.get("region_name") or "us-east-1"}
    if options.get("anon"):
        found["anonymous"] = "true"
    style = (((options.get("config_kwargs") or {}).get("s3")) or {}).get("addressing_style")
    if endpoint:
        found["endpoint"] = str(endpoint)
    if style == "path" or (endpoint and style != "virtual"):
        found["use_path_style"] = "true"
    return found


def credentials_of(settings: Settings) -> dict[str, str]:
    """
    Credentials that this deployment was given for its store, as variables that each cloud's own libraries read. None where the worker has
    them from its machine: a pod gets its own by its service account then.
    """
    options = settings.storage_options
    scheme = SCHEMES.get(settings.store_url.partition("://")[0])
    if scheme == "s3":
        found = _connection_credentials(settings) or {
            "AWS_ACCESS_KEY_ID": options.get("key"),
            "AWS_SECRET_ACCESS_KEY": options.get("secret"),
            "AWS_SESSION_TOKEN": options.get("token"),
        }
    elif scheme == "azblob":
        found = {
            "AZURE_STORAGE_ACCOUNT": options.get("account_name"),
            "AZURE_STORAGE_KEY": options.get("account_key"),
            "AZURE_STORAGE_SAS_TOKEN": options.get("sas_token"),
        }
    else:
        found = {}
    return {name: str(value) for name, value in found.items() if value}


def _connection_settings(settings: Settings) -> dict[str, Any]:
    """Endpoint and region of the connection that the store is opened with."""
    hook = _aws(settings)
    if hook is None:
        return {}
    config = hook.conn_config
    return {"endpoint_url": config.get_service_endpoint_url("s3"), "region_name": config.region_name}


def _connection_credentials(settings: Settings) -> dict[str, str | None]:
    hook = _aws(settings)
    if hook is None:
        return {}
    found = hook.get_credentials()
    return {
        "AWS_ACCESS_KEY_ID": found.access_key,
        "AWS_SECRET_ACCESS_KEY": found.secret_key,
        "AWS_SESSION_TOKEN": found.token,
    }


def _aws(settings: Settings) -> Any:
    """The hook of the connection that an S3 store is opened with; ``None`` if there is none."""
    if settings.store_conn_id is None or SCHEMES.get(settings.store_url.partition("://")[0]) != "s3":
        return None
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    return AwsBaseHook(aws_conn_id=settings.store_conn_id, client_type="s3")


def bring_local_inputs(attempt: Attempt) -> dict[str, str]:
    """
    Put inputs into the store that lie on the worker, such as an imported file.

    :return: their keys by name
    """
    from airflow_mlops.operators.staging import check_host_path
    from airflow_mlops.operators.verification import verify

    keys = keys_of_local_inputs(attempt)
    for name, key in keys.items():
        artifact = staged(attempt)[name]
        path = _local_path(artifact, attempt.store)
        assert path is not None  # noqa: S101 - it has a key for that
        check_host_path(path, attempt.settings)
        if not path.exists():
            raise BadStep(
                f"{artifact.uri} does not exist on this worker; expected the file or folder that was imported"
            )
        verify(artifact, path, attempt.settings.verify, attempt.store)
        attempt.store.upload(path, key)
    return keys


def keys_of_local_inputs(attempt: Attempt) -> dict[str, str]:
    """Where in the store inputs go that lie on the worker, by their names."""
    return {
        name: f"{attempt.key}/{STAGED}/{name}"
        for name, artifact in staged(attempt).items()
        if _local_path(artifact, attempt.store) is not None
    }


def _local_path(artifact: Artifact, store: Store) -> Path | None:
    """Where on the worker an artifact lies; ``None`` if a pod can reach it."""
    from airflow_mlops.operators.staging import imported_file

    return None if store.contains(artifact.uri) else imported_file(artifact.uri)


def drop_local_inputs(store: Store, attempt_key: str) -> None:
    """Remove what :func:`bring_local_inputs` brought, once the pod has it."""
    store.delete_tree(f"{attempt_key}/{STAGED}")
