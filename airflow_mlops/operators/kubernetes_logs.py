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

    from airflow_mlops.operators.log_following import Shown
    from airflow_mlops.operators.logs import LineLog

_LONGEST = 64 * 1024
"""Bytes of a line that are kept together; a longer one comes in pieces."""

_LONGEST_TIME = 40
"""Bytes of what stands before a line at the most."""

_NO_LOG = re.compile(rb"(?!\d{4}-)\D")
"""How something that is no log begins: with no year."""

_GONE = 404


class Follower(log_following.Follower):
    """
    Show the output of a pod's program.

    :param client: gives the client as it is now
    :param before: what somebody else has shown
    """

    def __init__(
        self,
        client: Callable[[], CoreV1Api],
        namespace: str,
        pod: str,
        lines: LineLog,
        log: Any,
        before: Shown | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod
        super().__init__(lines, log, log_following.Seen(before))

    def _opened(self, since: int | None) -> Iterable[bytes]:
        response = self._client().read_namespaced_pod_log(
            self._pod,
            self._namespace,
            container=STEP,
            follow=True,
            timestamps=True,
            since_seconds=seconds_ago(since),
            _preload_content=False,
            # A server that never begins to answer would keep this thread for good; a silent program is asked for anew before.
            _request_timeout=(10, 2 * log_following.SILENCE),
        )
        return _Response(response)

    def _is_for_good(self, error: Exception) -> bool:
        """The pod is gone, or its program has ended and its node has removed what it printed."""
        if isinstance(error, NoLogError):
            return self._ended.is_set()
        return isinstance(error, ApiException) and error.status == _GONE


def seconds_ago(since: int | None) -> int | None:
    """
    A time as the API server is asked for a log from then on: seconds before now, of a clock that may differ from this one.

    :param since: seconds since the epoch
    """
    return None if since is None else max(1, math.ceil(time.time() - since) + 2)


class NoLogError(Exception):
    """A node says in place of a log that there is none: not yet, or not any more."""


class Lines:
    """
    Cuts what comes of a log into lines, whole ones with their end. A log begins with a time.

    A long line comes in pieces, each with the time of the line, and always cut at the same places, however it came: so what is read once more
    is known again.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._time: bytes | None = None
        """What stands before the line whose first part was looked at already; it is not in the rest."""
        self._is_log = False

    def take(self, chunk: bytes) -> list[bytes]:
        """
        Take the next bytes.

        :return: the lines that are whole now, and of a long one its pieces
        :raises NoLogError: if it is no log
        """
        rest = self._rest + chunk
        if not self._is_log and rest:
            if _NO_LOG.match(rest):
                raise NoLogError(rest[:200].decode(errors="replace"))
            self._is_log = True
        *lines, rest = rest.split(b"\n")
        found: list[bytes] = []
        for line in lines:
            found += self._cut(line + b"\n")
            found += self.end()
        found += self._cut(rest)
        return found

    def end(self) -> list[bytes]:
        """What is left when nothing more comes."""
        rest, before = self._rest, self._time or b""
        self._rest, self._time = b"", None
        return [before + rest] if rest else []

    def _cut(self, text: bytes) -> list[bytes]:
        """Pieces of a line that is too long; what is left is the rest."""
        if self._time is None and len(text) > _LONGEST:
            end = text.find(b" ", 0, _LONGEST_TIME) + 1
            self._time, text = text[:end], text[end:]
        pieces: list[bytes] = []
        while self._time is not None and len(text) > _LONGEST:
            pieces.append(self._time + text[:_LONGEST])
            text = text[_LONGEST:]
        self._rest = text
        return pieces


class _Response:
    """The lines of a log as it is answered."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        lines = Lines()
        for chunk in self._response.stream(amt=None):
            yield from lines.take(chunk)
        yield from lines.end()

    def close(self) -> None:
        """End the response under whoever reads it: closing it would wait for that thread."""
        self._response.shutdown()
