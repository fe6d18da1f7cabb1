# SPDX-License-Identifier: Apache-2.0
"""
The triggerer's client of an API server: one for all pods that wait there. Each client has TLS settings of its own, which take megabytes.

The provider's hook makes it, and so decides by which connection, account or kubeconfig.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kubernetes_asyncio.client import Configuration, CoreV1Api

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

OLDEST = 600.0
"""Seconds after which those who come get a new client: a connection, or what a kubeconfig runs for a token, may say something else by now."""

_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_WHICH_CLUSTER = ("in_cluster", "kube_config", "kube_config_path")


@dataclass(eq=False, slots=True)
class Client:
    """
    A client that some share.

    :param core: for questions
    :param users: how many have it
    """

    core: CoreV1Api
    _open: AsyncExitStack
    _made: float
    users: int = 0

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self._made > OLDEST

    async def close(self) -> None:
        await self._open.aclose()


class Clients:
    """The clients of one event loop, by the cluster that they lead to."""

    def __init__(self) -> None:
        self._newest: dict[str, Task[Client]] = {}

    async def borrow(self, cluster: Mapping[str, Any]) -> Client:
        """
        A client, to be given back.

        :param cluster: keywords of the provider's operator that say which cluster
        """
        key = json.dumps(dict(cluster), sort_keys=True, default=str)
        making = self._newest.get(key)
        if making is None or (making.done() and (_has_failed(making) or making.result().is_old)):
            old, making = making, asyncio.create_task(_made(cluster))
            self._newest[key] = making
            if old is not None and not _has_failed(old) and not old.result().users:
                await old.result().close()  # all who had waited for it were cancelled
        # Others wait for the same: that one of them is cancelled must not end it.
        client = await asyncio.shield(making)
        client.users += 1
        return client

    def retire(self, client: Client) -> None:
        """Give a client to nobody any more: the server does not know its token, say."""
        for key, making in list(self._newest.items()):
            if making.done() and not _has_failed(making) and making.result() is client:
                del self._newest[key]

    async def give_back(self, client: Client) -> None:
        """Use a client no more; the last one closes it."""
        client.users -= 1
        if not client.users:
            self.retire(client)
            await client.close()


_CLIENTS: WeakKeyDictionary[AbstractEventLoop, Clients] = WeakKeyDictionary()


def clients() -> Clients:
    """Those of the running event loop."""
    return _CLIENTS.setdefault(asyncio.get_running_loop(), Clients())


def _has_failed(making: Task[Client]) -> bool:
    return making.cancelled() or making.exception() is not None


async def _made(cluster: Mapping[str, Any]) -> Client:
    hook = await asyncio.to_thread(_hook, cluster)
    extras = await hook.get_conn_extras()
    is_told = any(extras.get(name) or extras.get(f"extra__kubernetes__{name}") for name in _WHICH_CLUSTER)
    if hook.in_cluster is None and hook.config_dict is None and not is_told and _TOKEN.exists():
        # As the provider's other hook decides it where nobody has.
        hook.in_cluster = True
    hook.client_configuration = Configuration()
    # Each pod has a connection for its watch and one for its log for as long as it waits: a limit would make the next one wait for an end.
    hook.client_configuration.connection_pool_maxsize = 0
    stack = AsyncExitStack()
    core = CoreV1Api(await stack.enter_async_context(hook.get_conn()))
    return Client(core, stack, time.monotonic())


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
