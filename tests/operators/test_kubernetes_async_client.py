# SPDX-License-Identifier: Apache-2.0
"""One client for all that wait in a triggerer. The provider's hook, which would ask Airflow for a connection, is a stand-in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("kubernetes_asyncio")

from airflow_mlops.operators import kubernetes_async_client as module
from airflow_mlops.operators.kubernetes_async_client import Clients


class Hook:
    """What makes clients; counts them."""

    in_cluster = config_dict = client_configuration = None
    made, closed, broken = 0, 0, 0

    async def get_conn_extras(self) -> dict[str, Any]:
        if Hook.broken:
            Hook.broken -= 1
            raise OSError("no connection")
        return {}

    @asynccontextmanager
    async def get_conn(self) -> AsyncIterator[object]:
        Hook.made += 1
        yield object()
        Hook.closed += 1


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    Hook.made = Hook.closed = Hook.broken = 0
    monkeypatch.setattr(module, "_hook", lambda cluster: Hook())


def test_who_waits_at_the_same_server_shares_a_client_and_the_last_one_closes_it() -> None:
    async def wait() -> None:
        clients = Clients()
        found = await asyncio.gather(*(clients.borrow({"in_cluster": None}) for _ in range(5)))
        other = await clients.borrow({"kubernetes_conn_id": "other"})
        assert len({id(client) for client in found}) == 1 and other is not found[0]
        for client in found[1:]:
            await clients.give_back(client)
        assert (Hook.made, Hook.closed) == (2, 0)
        await clients.give_back(found[0])
        assert (Hook.made, Hook.closed) == (2, 1)
        assert await clients.borrow({"in_cluster": None}) is not found[0]

    asyncio.run(wait())


@pytest.mark.parametrize("why", ["retired", "old"])
def test_a_client_that_is_out_of_date_is_given_to_nobody_and_serves_those_who_have_it(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> None:
        clients = Clients()
        first, second = await clients.borrow({}), await clients.borrow({})
        if why == "retired":
            clients.retire(first)
        else:
            monkeypatch.setattr(module, "OLDEST", -1.0)
        await clients.give_back(first)
        third = await clients.borrow({})
        assert second is first and third is not first
        assert Hook.closed == 0
        await clients.give_back(second)
        assert Hook.closed == 1
        await clients.give_back(third)
        assert Hook.closed == 2

    asyncio.run(wait())


def test_who_is_cancelled_takes_the_client_from_nobody() -> None:
    async def wait() -> None:
        clients = Clients()
        first, second = (asyncio.create_task(clients.borrow({})) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).users == 1
        assert Hook.made == 1

    asyncio.run(wait())


def test_a_client_whose_users_were_all_cancelled_is_closed_when_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait() -> None:
        clients = Clients()
        nobody = asyncio.create_task(clients.borrow({}))
        await asyncio.sleep(0)
        nobody.cancel()
        while not Hook.made:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(module, "OLDEST", -1.0)
        await clients.give_back(await clients.borrow({}))
        assert (Hook.made, Hook.closed) == (2, 2)

    asyncio.run(wait())


def test_a_client_that_could_not_be_made_is_tried_again() -> None:
    async def wait() -> None:
        clients = Clients()
        Hook.broken = 1
        with pytest.raises(OSError, match="no connection"):
            await clients.borrow({})
        assert (await clients.borrow({})).users == 1

    asyncio.run(wait())
