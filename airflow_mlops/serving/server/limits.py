# SPDX-License-Identifier: Apache-2.0
"""
How much the server takes on: predictions at a time and in the queue, the time of one, and the bodies that are read.

What is too much is refused as early as can be, before a body is read where possible, so that refusing costs little. Bodies are counted together,
too: many clients that each stay below the limit of one body could else fill the memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from airflow_mlops.serving.server.errors import (
    EncodingRefused,
    Refused,
    RequestInvalid,
    TimedOut,
    TooLarge,
    TooMany,
    TooSlow,
    Unready,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_mlops.serving.server.settings import Settings

log = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds in which the rest of a refused request is thrown away: closing at once would reset the connection, and the client lose the answer."""

T = TypeVar("T")


class Places:
    """
    Threads that predict, and a queue before them. The event loop stays free to answer health checks.

    A prediction that exceeds its time keeps its place until it ends, since no thread can be stopped: else the stuck ones would pile up.

    :param concurrency: predictions at a time
    :param queue: requests that may wait
    :param seconds: in which a request is answered, the wait included
    """

    def __init__(self, concurrency: int, queue: int, seconds: float) -> None:
        self.concurrency = concurrency
        self._queue = queue
        self._seconds = seconds
        self._free = asyncio.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, "predict")
        self.waiting = 0
        self.running = 0
        self.overdue = 0
        """Predictions that run although their time is over."""

    @property
    def stuck(self) -> bool:
        """Whether every place is held by a prediction whose time is over."""
        return self.overdue >= self.concurrency

    def check(self) -> None:
        """
        See whether there is room for another request.

        :raises TooMany: if there is not
        """
        if self._free.locked() and self.waiting >= self._queue:
            raise TooMany(f"{self.running} predictions run and {self.waiting} requests wait, as many as may; try again")

    async def run(self, function: Callable[[], T]) -> T:
        """
        Call a function in a thread, in turn.

        :raises TooMany: if as many wait as may
        :raises Unready: if its turn did not come in time
        :raises TimedOut: if it did not end in time
        """
        self.check()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise Unready(f"the request waited {self._seconds:g} s for its turn; try again") from None
        finally:
            self.waiting -= 1
        self.running += 1
        future = loop.run_in_executor(self._pool, function)
        future.add_done_callback(self._leave)
        done, _ = await asyncio.wait({future}, timeout=deadline - loop.time())
        if not done:
            self.overdue += 1
            future.add_done_callback(self._come_late)
            raise TimedOut(f"the model did not answer within {self._seconds:g} s")
        return future.result()

    def _leave(self, _: asyncio.Future[Any]) -> None:
        self.running -= 1
        self._free.release()

    def _come_late(self, future: asyncio.Future[Any]) -> None:
        self.overdue -= 1
        if not future.cancelled() and (error := future.exception()) is not None:
            log.warning("a prediction whose time was over ended with %s", type(error).__name__)

    def close(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class BodyMemory:
    """
    What all bodies hold together.

    :param limit: bytes
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, count: int) -> None:
        """
        Count some bytes.

        :raises Unready: if they are too many
        """
        if self.held + count > self._limit:
            raise Unready(f"the bodies of all requests hold {self.held} bytes, nearly as many as may; try again")
        self.held += count

    def give(self, count: int) -> None:
        """Count some bytes no more."""
        self.held -= count


class Bodies:
    """
    Reads the bodies of inference requests before the application is called, and lets no other request have one.

    :param admit: called with a request's path and headers before its body is read; raises what it is to be refused with
    """

    def __init__(
        self, app: ASGIApp, *, settings: Settings, admit: Callable[[str, bool, MutableMapping[bytes, bytes]], None]
    ) -> None:
        self._app = app
        self._limit = settings.body_limit
        self._seconds = settings.body_seconds
        self._admit = admit
        self.memory = BodyMemory(settings.body_memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        infers = scope["method"] == "POST" and scope["path"].endswith("/infer")
        read = bytearray()  # a list of pieces of a byte each would hold forty times as much as it is counted for
        size = 0
        try:
            try:
                self._admit(scope["path"], infers, headers)
                length = _length(headers, infers, self._limit)
                if infers:
                    await self._read(receive, read, length)
            except Refused as refused:
                self.memory.give(len(read))
                read.clear()
                await _refuse(refused, receive, send)
                return
            body = bytes(read)
            size = len(body)
            read.clear()  # half of the memory, for as long as the model takes
            scope["mlops_body_size"] = size
            await self._app(scope, _replayed(body, receive), send)
        finally:
            self.memory.give(size + len(read))

    async def _read(self, receive: Receive, read: bytearray, length: int | None) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestInvalid("the connection ended before the body did")
                    chunk = message.get("body", b"")
                    if len(read) + len(chunk) > self._limit:
                        raise TooLarge(f"the body is larger than {self._limit} bytes, the most that is taken")
                    self.memory.take(len(chunk))
                    read += chunk
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            expected = "" if length is None else f" of {length}"
            raise TooSlow(
                f"{len(read)}{expected} bytes of the body came within {self._seconds:g} s; expected all of it"
            ) from None


def _length(headers: MutableMapping[bytes, bytes], infers: bool, limit: int) -> int | None:
    """The length of the body that the headers declare, looked at before a byte of it is read; ``None`` if it comes in chunks."""
    chunked = b"transfer-encoding" in headers
    declared = headers.get(b"content-length", b"0")
    # The HTTP library has seen to it that these are digits; how many is another question.
    length = int(declared) if len(declared) < 20 else 10**20
    if not infers:
        if chunked or length:
            raise RequestInvalid("only POST …/infer takes a body")
        return 0
    if chunked and b"content-length" in headers:
        raise RequestInvalid("the request has both Content-Length and Transfer-Encoding; send one of them")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity":
        raise EncodingRefused(
            "the body is compressed, which this server does not take; send it without Content-Encoding"
        )
    if b"inference-header-content-length" in headers:
        raise EncodingRefused("the body has tensors in binary form, which this server does not take; send them as JSON")
    if length > limit:
        raise TooLarge(f"the body has {declared[:20].decode('ascii')} bytes; at most {limit} are taken")
    return None if chunked else length


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as one message, and after it whatever comes."""
    read = False

    async def again() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def error_body(message: str) -> bytes:
    """The body of an answer that says what is wrong."""
    return orjson.dumps({"error": message})


async def _refuse(refused: Refused, receive: Receive, send: Send) -> None:
    """Answer and end the connection, on which the rest of the request may still be coming."""
    body = error_body(str(refused))
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = [(name.encode(), value.encode()) for name, value in {**headers, **refused.headers}.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": lines, "reason": refused.reason})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
