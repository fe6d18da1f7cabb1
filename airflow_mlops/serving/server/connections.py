# SPDX-License-Identifier: Apache-2.0
"""
Connections that nobody can hold open for nothing. uvicorn bounds how long one idles after an answer, but neither how long the head of a request
takes nor how long somebody does not read an answer, and answers no JSON to what is no HTTP.
"""

from __future__ import annotations

import asyncio
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_mlops.serving.server.limits import error_body

log = logging.getLogger(__name__)


def _answer(status: str, message: str) -> bytes:
    body = error_body(message)
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


class _Bounded(H11Protocol):
    """A connection. How much it may is said by the class that :func:`bounded` makes."""

    head_seconds: float
    most: int
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._end(
                _answer("503 Service Unavailable", f"{self.most} connections are open, as many as may; try again")
            )
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._forget_head()

    def on_response_complete(self) -> None:
        """See uvicorn, which may have got the begin of the next head together with the request that it has answered."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0] and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._forget_head()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Closing would wait for an answer to be read; who has not read it by now will not."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that a request is no HTTP."""
        self._end(_answer("400 Bad Request", msg))

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self._too_slow)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if not self.transport.is_closing():
            message = f"the head of the request did not come within {self.head_seconds:g} s"
            self._end(_answer("408 Request Timeout", message))

    def _end(self, answer: bytes) -> None:
        self._forget_head()
        self.transport.write(answer)
        self.transport.close()


def bounded(*, head_seconds: float, most: int) -> type[H11Protocol]:
    """
    A class of connections.

    :param head_seconds: in which the head of a request has to arrive
    :param most: connections that may be open
    """
    return type("Bounded", (_Bounded,), {"head_seconds": head_seconds, "most": most})
