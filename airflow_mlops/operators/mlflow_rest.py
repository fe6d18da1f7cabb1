# SPDX-License-Identifier: Apache-2.0
"""
The few requests of MLflow's REST API by which runs are tracked (https://mlflow.org/docs/latest/rest-api.html).

MLflow's own client takes two seconds to import, which is more than a step may be held up by tracking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

if TYPE_CHECKING:
    from airflow_mlops.operators.mlflow_connection import MlflowAddress

_API = "/api/2.0/mlflow"
_GONE, _TAKEN = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
_ODD = re.compile(r"[^A-Za-z0-9_\-. :/]")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_KEY, _PARAM, _TAG = 250, 6000, 5000
"""Characters that MLflow takes."""

_METRICS, _OTHERS = 1000, 100
"""What it takes in one request."""


class TrackingRefused(Exception):
    """A tracking server did not do what it was asked for, or answers what is none of MLflow's answers."""


class Metric(NamedTuple):
    """
    One number of a run.

    :param timestamp: milliseconds since the epoch
    :param step: place of it in a curve
    """

    key: str
    value: float
    timestamp: int
    step: int = 0


class MlflowRest:
    """
    A tracking server.

    :param timeout: seconds that one request may take
    """

    def __init__(self, address: MlflowAddress, timeout: float) -> None:
        from airflow_mlops.operators.mlflow_connection import PASSWORD, TOKEN, USER

        given = address.credentials
        auth = httpx.BasicAuth(given[USER], given.get(PASSWORD, "")) if USER in given else None
        headers = {"Authorization": f"Bearer {given[TOKEN]}"} if TOKEN in given else {}
        # What checks certificates takes a tenth of a second to make.
        verify = address.uri.startswith("https:")
        self._client = httpx.Client(
            base_url=f"{address.uri}{_API}", auth=auth, headers=headers, timeout=timeout, verify=verify
        )

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made if there is none."""
        with suppress(_GoneError):
            return self._experiment(name)
        with suppress(_TakenError):
            return _id(self._post("experiments/create", {"name": name}), "experiment_id")
        return self._experiment(name)

    def create_run(self, experiment: str, name: str, started: int, tags: Mapping[str, str]) -> str:
        """
        Make a run.

        :param started: milliseconds since the epoch
        :return: its id
        """
        body = {"experiment_id": experiment, "run_name": name, "start_time": started, "tags": _pairs(tags, _TAG)}
        return _id(self._part(self._post("runs/create", body), "run", "info"), "run_id")

    def find_run(self, experiment: str, tags: Mapping[str, str]) -> str | None:
        """The newest run with some tags, whose values hold no quote."""
        filter_ = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        body = {"experiment_ids": [experiment], "filter": filter_, "max_results": 1}
        found = self._post("runs/search", body).get("runs") or []
        return _id(self._part(found[0], "info"), "run_id") if found else None

    def log(
        self,
        run: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write to a run. A key with characters that MLflow does not take has underscores in their place, and what is too long is cut."""
        keys = _keys(metric.key for metric in metrics)
        numbers = [{**metric._asdict(), "key": keys[metric.key]} for metric in metrics]
        body: dict[str, Any] = {"run_id": run, "metrics": numbers[:_METRICS]}
        body |= {"params": _pairs(params or {}, _PARAM)[:_OTHERS], "tags": _pairs(tags or {}, _TAG)[:_OTHERS]}
        self._post("runs/log-batch", body)
        for start in range(_METRICS, len(numbers), _METRICS):
            self._post("runs/log-batch", {"run_id": run, "metrics": numbers[start : start + _METRICS]})

    def update(self, run: str, status: str, ended: int | None = None) -> None:
        """
        Set the status of a run: ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.

        :param ended: milliseconds since the epoch
        """
        self._post("runs/update", {"run_id": run, "status": status, **({"end_time": ended} if ended else {})})

    def delete_run(self, run: str) -> None:
        """Delete a run."""
        self._post("runs/delete", {"run_id": run})

    def tags(self, run: str) -> dict[str, str]:
        """The tags of a run."""
        answer = self._answer("GET", "runs/get", params={"run_id": run})
        data = self._part(answer, "run", "data")
        return {str(tag["key"]): str(tag["value"]) for tag in data.get("tags") or []}

    def delete_tag(self, run: str, key: str) -> None:
        """Remove a tag of a run, which must be there."""
        self._post("runs/delete-tag", {"run_id": run, "key": key})

    def _experiment(self, name: str) -> str:
        answer = self._answer("GET", "experiments/get-by-name", params={"experiment_name": name})
        return _id(self._part(answer, "experiment"), "experiment_id")

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("POST", path, json=body)

    def _answer(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, f"/{path}", **arguments)
        except httpx.HTTPError as error:
            raise TrackingRefused(f"{path}: {type(error).__name__}: {error}") from error
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TrackingRefused(f"{path}: status {answer.status_code}, and what came is no answer of MLflow's")
        if answer.is_success:
            return document
        code = document.get("error_code")
        refused = {_GONE: _GoneError, _TAKEN: _TakenError}.get(str(code), TrackingRefused)
        raise refused(f"{path}: status {answer.status_code}: {code}: {str(document.get('message'))[:200]}")

    def _part(self, document: Any, *path: str) -> dict[str, Any]:
        for name in path:
            document = document.get(name) if isinstance(document, dict) else None
        if not isinstance(document, dict):
            raise TrackingRefused(f"an answer has no {'.'.join(path)}, so it is none of MLflow's")
        return document


class _GoneError(TrackingRefused):
    """There is no such thing."""


class _TakenError(TrackingRefused):
    """There is one already."""


def _id(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not _RUN_ID.fullmatch(value):
        raise TrackingRefused(f"an answer has no {key}, so it is none of MLflow's")
    return value


def _pairs(values: Mapping[str, str], most: int) -> list[dict[str, str]]:
    keys = _keys(values)
    return [{"key": keys[key], "value": value[:most]} for key, value in values.items()]


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Keys that MLflow takes, by the names that they are for; two names that would have the same one are numbered."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        key = plain = _ODD.sub("_", name)[:_KEY]
        number = 1
        while key in taken:
            number += 1
            key = f"{plain[: _KEY - 8]}_{number}"
        taken.add(key)
        found[name] = key
    return found
