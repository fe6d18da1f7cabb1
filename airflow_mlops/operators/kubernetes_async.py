# SPDX-License-Identifier: Apache-2.0
"""
What the triggerer asks of a Kubernetes API server about one pod, without ever holding up the others that wait there.

As :mod:`~airflow_mlops.operators.kubernetes_api` asks it for a worker, with the same patience.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from kubernetes_asyncio.client import ApiException, CoreV1Api
from kubernetes_asyncio.config import ConfigException

from airflow_mlops.operators import patience
from airflow_mlops.operators.kubernetes_api import FINALIZER, listed
from airflow_mlops.operators.kubernetes_async_client import Client, clients
from airflow_mlops.operators.kubernetes_logs import Lines, seconds_ago
from airflow_mlops.operators.kubernetes_state import STEP
from airflow_mlops.operators.patience import FIRST_PAUSE, LONGEST_PAUSE

if TYPE_CHECKING:
    from kubernetes_asyncio.client import V1Pod

T = TypeVar("T")

WATCH_SECONDS = 60
"""How long one watch lasts: for so long may the end of a pod go unnoticed whose watch has broken without a word."""

LOG_SILENCE = 300
"""Seconds without output after which a log is opened anew. Nothing but output is late for it."""

_EARLY = 5.0
"""Seconds before its time that a watch may end and still have said all."""

_ANSWER = (10, 30)
"""Seconds to connect, and between two pieces of an answer."""

_FIRST_ERROR, _UNAUTHORIZED, _NOT_FOUND, _GONE = 400, 401, 404, 410

BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError)
"""What a connection that breaks raises, in the middle of an answer, too."""


class Patience(patience.Patience):
    """Patience with an API server; only the accounting of it is used, since its waits would hold up everybody."""

    who = "the Kubernetes API server"
    what = "pod"
    errors = (ApiException, ConfigException, *BROKEN)


class AsyncPod:
    """
    A pod that is there.

    :param cluster: which cluster, as keywords of the provider's operator say it
    :param namespace: where the pod is
    :param seconds: how long the server may be away
    """

    def __init__(
        self, cluster: Mapping[str, Any], namespace: str, name: str, *, seconds: float, task_id: str, log: Any
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._patience = Patience(seconds, task_id=task_id, log=log, check=lambda: None)
        self._client: Client | None = None
        self._version = ""
        self._borrowing = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the client; what is under way may break."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # nothing of what was done depends on it
                await clients().give_back(client)

    async def core(self) -> CoreV1Api:
        """The client, asked for when it is needed first, with tokens and certificates as they are then."""
        async with self._borrowing:
            if self._client is None:
                self._client = await clients().borrow(self._cluster)
            return self._client.core

    async def _ask(self, question: Callable[[CoreV1Api], Awaitable[T]]) -> T | None:
        """
        Ask about the pod until there is an answer; ``None`` if it is gone. What the server refuses is asked again as if it were away: the pod
        is there all the same.

        :raises ServiceAway: if there is none for too long
        """
        pause = FIRST_PAUSE
        while True:
            try:
                answer = await question(await self.core())
            except Patience.errors as error:
                if isinstance(error, ApiException) and error.status == _NOT_FOUND:
                    self._patience.answered()
                    return None
                await self._missed(error)
            else:
                self._patience.answered()
                return answer
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _missed(self, error: BaseException) -> None:
        if isinstance(error, ApiException) and error.status == _UNAUTHORIZED and self._client is not None:
            clients().retire(self._client)
            await self.close()
        self._patience.missed(error)

    async def read(self) -> V1Pod | None:
        """The pod as the server has it; ``None`` if it is gone."""
        return await self._ask(
            lambda core: core.read_namespaced_pod(self._name, self._namespace, _request_timeout=_ANSWER)
        )

    async def follow(self, seconds: Callable[[], float]) -> AsyncIterator[V1Pod | None]:
        """
        The pod, each time it has changed, and now and then although it has not.

        :param seconds: for how long nothing needs to be looked at but the pod; asked again after each change
        :return: never ends by itself; ``None`` once there is no such pod
        :raises ServiceAway: if the server is away for too long
        """
        pod: V1Pod | None = None
        is_known = False
        while True:
            began = time.monotonic()
            if not is_known:
                pod = await self._listed()
            yield pod
            if pod is None:
                return
            is_known = False
            try:
                async for changed in self._watch(seconds):
                    pod = changed
                    yield pod
                # What was seen last is how it is: the next watch goes on from there.
                is_known = True
            except ApiException as error:
                if error.status != _GONE:  # what was last seen is too long ago: it is read anew
                    await self._missed(error)
            except BROKEN as error:
                if not isinstance(error, (asyncio.TimeoutError, aiohttp.ClientPayloadError)):
                    await self._missed(error)
            except _UnclearError:
                pass
            # An answer that comes at once must not make this a loop without a pause.
            await asyncio.sleep(max(0.0, min(1.0, seconds()) - (time.monotonic() - began)))

    async def _listed(self) -> V1Pod | None:
        """
        The pod, and where a watch of it can begin: at the version of the cluster that it was read from. Its own may be too old for one, since
        a server keeps the last changes of all pods, and this one may not have changed for hours.
        """

        async def question(core: CoreV1Api) -> tuple[list[V1Pod], str]:
            found = await core.list_namespaced_pod(
                self._namespace, field_selector=f"metadata.name={self._name}", _request_timeout=_ANSWER
            )
            return listed(found, self._name)

        pods, self._version = await self._ask(question) or ([], "")
        # A list without it is no proof that it is gone.
        return pods[0] if pods else await self.read()

    async def _watch(self, seconds: Callable[[], float]) -> AsyncIterator[V1Pod]:
        """
        Changes of the pod, until there is something else to look at.

        :raises _UnclearError: if the pod is gone, or what came is no watch of it
        """
        left = max(1.0, min(WATCH_SECONDS, seconds()))
        end = time.monotonic() + left
        core = await self.core()
        # The client's own class for watches makes a client of its own for each.
        answer: Any = await core.list_namespaced_pod(
            self._namespace,
            field_selector=f"metadata.name={self._name}",
            resource_version=self._version,
            # They say up to where nothing has happened, so that the next watch need not begin where this one did.
            allow_watch_bookmarks=True,
            timeout_seconds=round(left),
            watch=True,
            _preload_content=False,
            _request_timeout=(_ANSWER[0], left + 10),
        )
        try:
            if answer.status >= _FIRST_ERROR:
                raise ApiException(status=answer.status, reason=(await answer.text())[:500])
            while line := await answer.content.readline():
                changed, self._version = _changed(core, line, self._version)
                if changed is not None:
                    yield changed
                if time.monotonic() + seconds() < end:
                    return
            if time.monotonic() < end - _EARLY:
                raise _UnclearError
        finally:
            answer.close()

    async def log(self, since: int | None) -> AsyncGenerator[bytes]:
        """
        What the program prints, line by line, until its stream ends or breaks.

        :param since: from which second on, since the epoch; ``None`` for all of it
        :raises NoLogError: if there is none
        """
        # As a user of its own: the watch may let go of the client at any time.
        client = await clients().borrow(self._cluster)
        start: dict[str, Any] = {} if since is None else {"since_seconds": seconds_ago(since)}
        answer: Any = None
        lines = Lines()
        try:
            answer = await client.core.read_namespaced_pod_log(
                self._name,
                self._namespace,
                container=STEP,
                follow=True,
                timestamps=True,
                **start,
                _preload_content=False,
                _request_timeout=(_ANSWER[0], LOG_SILENCE),
            )
            async for chunk in answer.content.iter_any():
                for line in lines.take(chunk):
                    yield line
                # What is there already is given without a wait, and others have their turn.
                await asyncio.sleep(0)
            for line in lines.end():
                yield line
        finally:
            if answer is not None:
                answer.close()
            await clients().give_back(client)

    async def delete(self, grace: int) -> None:
        """
        Ask for the pod's end. Its object stays until it was released.

        :param grace: seconds that its programs are given
        """
        await self._ask(
            lambda core: core.delete_namespaced_pod(
                self._name, self._namespace, grace_period_seconds=grace, _request_timeout=_ANSWER
            )
        )

    async def release(self) -> None:
        """Take the finalizer off the pod, so that it can go."""

        # As a strategic merge takes it: what somebody else has put into the same list stays.
        change = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        await self._ask(
            lambda core: core.patch_namespaced_pod(self._name, self._namespace, change, _request_timeout=_ANSWER)
        )


class _UnclearError(Exception):
    """What a watch says is not how the pod is: it was removed, or somebody between answers in the server's place."""


def _changed(core: Any, line: bytes, version: str) -> tuple[V1Pod | None, str]:
    """
    The pod that an event of a watch tells of, ``None`` if it tells of something else; and the version of the cluster then.

    :param version: the version before
    :raises ApiException: if it tells of an error
    :raises _UnclearError: if the pod is gone, or the line is no event, as half of one from a gateway that ended the answer in its middle
    """
    try:
        event = json.loads(line)
        kind, content = event["type"], dict(event["object"])
        version = str(content.get("metadata", {}).get("resourceVersion") or version)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _UnclearError from None
    if kind == "ERROR":
        raise ApiException(status=content.get("code"), reason=f"{content.get('reason')}: {content.get('message')}")
    if kind == "DELETED":
        raise _UnclearError
    if kind not in ("ADDED", "MODIFIED"):
        return None, version
    pod: V1Pod = core.api_client.deserialize(SimpleNamespace(data=json.dumps(content)), "V1Pod")
    return pod, version
