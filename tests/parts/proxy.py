# SPDX-License-Identifier: Apache-2.0
"""
A proxy before a server that speaks HTTP, which holds requests or answers back, cuts connections and answers, or answers in the server's stead.

It is told what to do by rules, which may be set while it runs. So a moment between two requests of a program can be kept open for as
long as a test needs it, without a sleep and without a change to the program.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

Deed = Literal["hold request", "hold answer", "cut", "cut answer", "fail"]
_REQUEST = re.compile(rb"(GET|POST|PUT|PATCH|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")
Address = str | tuple[str, int]
_READ = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What the proxy says in the server's stead."""

    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after: int | None = None

    def to_bytes(self) -> bytes:
        """The whole answer, after which the connection ends."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
            *([f"Retry-After: {self.retry_after}"] if self.retry_after is not None else []),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


FAILURE = Answer(500, b'{"message": "the proxy was told to fail"}')


@dataclass
class Rule:
    """
    What is done to requests whose first line matches.

    :param pattern: of ``METHOD /path?query``
    :param deed: hold the request back before the server sees it, or its answer; cut the connection before the server sees the request; let the
        server act and cut its answer; or answer in its stead
    :param times: how many requests it is done to; default all
    :param answer: what is said in the server's stead
    :param after: how many bytes of a cut answer arrive
    :param released: set, what is held goes on and later requests pass
    :param closed: set, later requests pass, and what is held stays so
    :param reached: set when a request has been met
    """

    pattern: str
    deed: Deed
    times: int | None = None
    answer: Answer = FAILURE
    after: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    met: int = 0
    """How many requests it was done to."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, line: str) -> bool:
        """Whether something is to be done to a request, which is one of ``times`` then."""
        with self._lock:
            over = self.released.is_set() or self.closed.is_set() or self.met == self.times
            if over or re.search(self.pattern, line) is None:
                return False
            self.met += 1
            return True


class Proxy:
    """
    Listens at one address and speaks to another: a path is that of a Unix socket, a host and port are TCP's.

    :param listen: its own address
    :param server: the server's address
    :param tls: how it is spoken to, if by TLS; whoever speaks to the proxy does so in plain words
    """

    def __init__(self, listen: Address, server: Address, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._tls = tls
        self.rate: float | None = None
        """Bytes a second that all clients together may send; ``None`` for as many as they like."""
        self._pacing = threading.Lock()
        self._free_at = 0.0
        self._rules: list[Rule] = []
        self.flows = threading.Event()
        """Cleared, no byte passes on any connection."""
        self.flows.set()
        self._connections: set[socket.socket] = set()
        self.requests: list[str] = []
        """First lines of all requests, in order."""
        self._socket = _socket(listen)
        self._socket.bind(listen)
        self._socket.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def rule(self, pattern: str, deed: Deed, **options: Any) -> Rule:
        """From now on, do something to some requests; ``rule.released.set()`` ends it. See :class:`Rule` for the options."""
        rule = Rule(pattern, deed, **options)
        self._rules.append(rule)
        return rule

    def cut_all(self) -> None:
        """Cut every connection that is open."""
        for one in list(self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @property
    def port(self) -> int:
        """The port it listens on, where that is TCP's."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self.flows.set()
        self._socket.close()
        for rule in self._rules:
            rule.released.set()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError), closing(self._connect()) as server:
            self._connections.add(client)
            try:
                self._pass_on(client, server)
            finally:
                self._connections.discard(client)

    def _pace(self, count: int) -> None:
        """Wait until some more bytes may pass."""
        if self.rate is None:
            return
        with self._pacing:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self.rate
            pause = self._free_at - now
        time.sleep(pause)

    def _connect(self) -> socket.socket:
        server = _socket(self._server)
        try:
            server.connect(self._server)
            return self._tls.wrap_socket(server, server_hostname=str(self._server[0])) if self._tls else server
        except OSError:
            server.close()
            raise

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Bytes both ways. A request begins where a first line of one is seen at the start of what a client sends."""
        rule: Rule | None = None
        left = 0
        while True:
            ready = _ready(client, server)
            if client in ready:
                data = client.recv(_READ)
                if match := _REQUEST.match(data):
                    line = f"{match[1].decode()} {match[2].decode()}"
                    self.requests.append(line)
                    rule = next((rule for rule in self._rules if rule.takes(line)), None)
                    left = rule.after if rule is not None else 0
                if not data or (rule is not None and match and not _let_through(rule, client)):
                    return
                self.flows.wait()
                self._pace(len(data))
                server.sendall(data)
            if server in ready and (heard := _heard(server)) is not None:
                if not heard or (rule is not None and rule.deed == "hold answer" and not _await(rule, client)):
                    return
                self.flows.wait()
                if rule is None or rule.deed != "cut answer":
                    client.sendall(heard)
                    continue
                rule.reached.set()
                client.sendall(heard[:left])
                left -= len(heard)
                if left <= 0:
                    return


def _socket(address: Address) -> socket.socket:
    return socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)


def _ready(client: socket.socket, server: socket.socket) -> list[socket.socket]:
    """Which of the two has something to say; what TLS has read ahead is not seen from outside."""
    if isinstance(server, ssl.SSLSocket) and server.pending():
        return [server]
    return select.select([client, server], [], [])[0]


def _heard(server: socket.socket) -> bytes | None:
    """What a server says; ``None`` if it was something of TLS's own, after which there may be nothing for as long as it waits for the client."""
    server.settimeout(0)
    try:
        return server.recv(_READ)
    except ssl.SSLWantReadError:
        return None
    finally:
        server.settimeout(None)


def _let_through(rule: Rule, client: socket.socket) -> bool:
    """Do to a request what its rule says; whether the server is to see it."""
    if rule.deed in ("hold answer", "cut answer"):
        return True
    if rule.deed == "hold request":
        return _await(rule, client)
    rule.reached.set()
    if rule.deed == "fail":
        client.sendall(rule.answer.to_bytes())
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        # What of the request was not read yet would make the end a reset, by which the client may lose the answer.
        while client.recv(_READ):
            pass
    return False


def _await(rule: Rule, client: socket.socket) -> bool:
    """Wait for a rule's end; whether the client is still there then."""
    rule.reached.set()
    while not rule.released.wait(0.05):
        readable, _, _ = select.select([client], [], [], 0)
        if readable and not client.recv(1, socket.MSG_PEEK):
            return False
    return True


@contextmanager
def proxied(listen: Address, server: Address) -> Iterator[Proxy]:
    """A proxy for as long as the block lasts."""
    proxy = Proxy(listen, server)
    try:
        yield proxy
    finally:
        proxy.close()
