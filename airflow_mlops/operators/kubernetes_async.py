# SPDX-License-Identifier: Apache-2.0
"""
What the triggerer asks of a Kubernetes API server about one pod, without ever holding up the others that wait there.

As :mod:`~airflow_mlops.operators.kubernetes_api` asks it for a worker, with the same patience.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from kubernetes_asyncio.client import ApiException, CoreV1Api
from kubernetes_asyncio.config import ConfigException
from kubernetes_asyncio.watch import Watch

from airflow_mlops.operators import patience
from airflow_mlops.operators.kubernetes_api import FINALIZER
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

_ANSWER = (10, 30)
"""Seconds to connect, and between two pieces of an answer."""

_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_WHICH_CLUSTER = ("in_cluster", "kube_config", "kube_config_path")
_UNAUTHORIZED, _NOT_FOUND, _GONE = 401, 404, 410

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
        self._open = AsyncExitStack()
        self._core: CoreV1Api | None = None
        self._watcher: Watch | None = None

    async def close(self) -> None:
        """Close the connections."""
        self._core = None
        with suppress(Exception):  # nothing of what was done depends on it
            await self._open.aclose()

    async def core(self) -> CoreV1Api:
        """The client, made when it is needed first, with tokens and certificates as they are then."""
        if self._core is None:
            hook = await asyncio.to_thread(_hook, self._cluster)
            extras = await hook.get_conn_extras()
            is_told = any(extras.get(name) or extras.get(f"extra__kubernetes__{name}") for name in _WHICH_CLUSTER)
            if hook.in_cluster is None and hook.config_dict is None and not is_told and _TOKEN.exists():
                # As the provider's other hook decides it where nobody has.
                hook.in_cluster = True
            self._core = CoreV1Api(await self._open.enter_async_context(hook.get_conn()))
        return self._core

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
        if isinstance(error, ApiException) and error.status == _UNAUTHORIZED:
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
                pod = await self.read()
            yield pod
            if pod is None:
                return
            is_known = False
            try:
                async for changed in self._watch(pod.metadata.resource_version, seconds):
                    pod = changed
                    yield pod
                # What was seen last is how it is: a watch goes on from there.
                is_known = True
            except ApiException as error:
                if error.status != _GONE:  # what was last seen is too long ago: it is read anew
                    await self._missed(error)
            except BROKEN as error:
                if not isinstance(error, (asyncio.TimeoutError, aiohttp.ClientPayloadError)):
                    await self._missed(error)
            except _Deleted:
                pass
            # An answer that comes at once must not make this a loop without a pause.
            await asyncio.sleep(max(0.0, min(1.0, seconds()) - (time.monotonic() - began)))

    async def _watch(self, version: str, seconds: Callable[[], float]) -> AsyncIterator[V1Pod]:
        """Changes of the pod, until there is something else to look at."""
        left = max(1.0, min(WATCH_SECONDS, seconds()))
        end = time.monotonic() + left
        core = await self.core()
        if self._watcher is None:
            # Each makes a client of its own, which takes a while, for no more than to read what comes.
            self._watcher = Watch()
        async with self._watcher.stream(
            core.list_namespaced_pod,
            self._namespace,
            field_selector=f"metadata.name={self._name}",
            resource_version=version,
            timeout_seconds=round(left),
            _request_timeout=(_ANSWER[0], left + 10),
        ) as watch:
            async for event in watch:
                if not isinstance(event, dict):
                    return  # half an event, from a gateway that ended the answer in its middle
                if event["type"] == "DELETED":
                    raise _Deleted
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]
                if time.monotonic() + seconds() < end:
                    return

    async def log(self, since: int | None) -> AsyncGenerator[bytes]:
        """
        What the program prints, line by line, until its stream ends or breaks.

        :param since: from which second on, since the epoch; ``None`` for all of it
        :raises NoLogError: if there is none
        """
        core = await self.core()
        start: dict[str, Any] = {} if since is None else {"since_seconds": seconds_ago(since)}
        answer: Any = await core.read_namespaced_pod_log(
            self._name,
            self._namespace,
            container=STEP,
            follow=True,
            timestamps=True,
            **start,
            _preload_content=False,
            _request_timeout=(_ANSWER[0], LOG_SILENCE),
        )
        lines = Lines()
        try:
            async for chunk in answer.content.iter_any():
                for line in lines.take(chunk):
                    yield line
                # What is there already is given without a wait, and others have their turn.
                await asyncio.sleep(0)
            for line in lines.end():
                yield line
        finally:
            answer.close()

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


class _Deleted(Exception):
    """The pod's object was removed while it was watched."""


def _hook(cluster: Mapping[str, Any]) -> Any:
    """The provider's hook; importing it takes seconds."""
    import yaml
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

    config_file = cluster.get("config_file")
    return AsyncKubernetesHook(
        conn_id=cluster.get("kubernetes_conn_id", AsyncKubernetesHook.default_conn_name),
        in_cluster=cluster.get("in_cluster"),
        cluster_context=cluster.get("cluster_context"),
        config_dict=yaml.safe_load(Path(config_file).read_text()) if config_file else None,
    )
