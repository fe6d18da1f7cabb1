# SPDX-License-Identifier: Apache-2.0
"""The output of a pod's program, read from its node by way of the API server."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kubernetes.client import ApiException

from airflow_mlops.operators import log_following
from airflow_mlops.operators.kubernetes_state import STEP

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

    from airflow_mlops.operators.logs import LineLog

_LONGEST = 64 * 1024
"""Bytes of a line that are kept together; a longer one is shown in pieces."""

_NO_LOG = re.compile(rb"(?!\d{4}-)\D")
"""How something that is no log begins: with no year."""

_GONE = 404


class Follower(log_following.Follower):
    """
    Show the output of a pod's program.

    :param client: gives the client as it is now
    """

    def __init__(self, client: Callable[[], CoreV1Api], namespace: str, pod: str, lines: LineLog, log: Any) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod
        super().__init__(lines, log)

    def _opened(self, since: int | None) -> Iterable[bytes]:
        response = self._client().read_namespaced_pod_log(
            self._pod,
            self._namespace,
            container=STEP,
            follow=True,
            timestamps=True,
            # Seconds before now, of a clock that may differ from this one.
            since_seconds=None if since is None else max(1, math.ceil(time.time() - since) + 2),
            _preload_content=False,
            # A server that never begins to answer would keep this thread for good; a silent program is asked for anew before.
            _request_timeout=(10, 2 * log_following.SILENCE),
        )
        return _Lines(response)

    def _is_for_good(self, error: Exception) -> bool:
        """The pod is gone, or its program has ended and its node has removed what it printed."""
        if isinstance(error, _NoLogError):
            return self._ended.is_set()
        return isinstance(error, ApiException) and error.status == _GONE


class _NoLogError(Exception):
    """A node says in place of a log that there is none: not yet, or not any more."""


class _Lines:
    """Lines of a response, whole ones with their end. A log begins with a time."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        rest, is_first = b"", True
        for chunk in self._response.stream(amt=None):
            if is_first and _NO_LOG.match(rest + chunk):
                raise _NoLogError((rest + chunk)[:200].decode(errors="replace"))
            *lines, rest = (rest + chunk).split(b"\n")
            is_first = is_first and not lines
            yield from (line + b"\n" for line in lines)
            if len(rest) > _LONGEST:
                yield rest
                rest = b""
        if rest:
            yield rest

    def close(self) -> None:
        """End the response under whoever reads it: closing it would wait for that thread."""
        self._response.shutdown()
