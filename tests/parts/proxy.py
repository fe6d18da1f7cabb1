# SPDX-License-Identifier: Apache-2.0
"""
A proxy before a server that speaks HTTP, which holds requests or answers back, cuts connections, or says 500.

It is told what to do by rules, which may be set while it runs. So a moment between two requests of a program can be kept open for as
long as a test needs it, without a sleep and without a change to the program.
"""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Deed = Literal["hold request", "hold answer", "cut", "fail"]
_REQUEST = re.compile(rb"(GET|POST|PUT|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")
Address = str | tuple[str, int]
_FAILURE = b'{"message": "the proxy was told to fail"}'
_ANSWER = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_FAILURE), _FAILURE)
)


@dataclass
class Rule:
    """
    What is done to requests whose first line matches.

    :param pattern: of ``METHOD /path?query``
    :param deed: hold the request back before the server sees it, or its answer; cut the connection; or answer with an error
    :param released: set, what is held goes on and later requests pass
    :param closed: set, later requests pass, and what is held stays so
    :param reached: set when a request has been met
    """

    pattern: str
    deed: Deed
    released: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def holds(self, line: str) -> bool:
        """Whether something is to be done to a request."""
        return not (self.released.is_set() or self.closed.is_set()) and re.search(self.pattern, line) is not None


class Proxy:
    """
    Listens at one address and speaks to another: a path is that of a Unix socket, a host and port are TCP's.

    :param listen: its own address
    :param server: the server's address
    """

    def __init__(self, listen: Address, server: Address) -> None:
        self._server = server
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

    def rule(self, pattern: str, deed: Deed) -> Rule:
        """From now on, do something to some requests; ``rule.released.set()`` ends it."""
        rule = Rule(pattern, deed)
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
        with closing(client), closing(_socket(self._server)) as server, suppress(OSError):
            self._connections.add(client)
            try:
                server.connect(self._server)
                self._pass_on(client, server)
            finally:
                self._connections.discard(client)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Bytes both ways. A request begins where a first line of one is seen at the start of what a client sends."""
        rule: Rule | None = None
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                data = client.recv(1 << 16)
                if match := _REQUEST.match(data):
                    line = f"{match[1].decode()} {match[2].decode()}"
                    self.requests.append(line)
                    rule = next((rule for rule in self._rules if rule.holds(line)), None)
                if not data or (rule is not None and match and not _let_through(rule, client)):
                    return
                self.flows.wait()
                server.sendall(data)
            if server in ready:
                data = server.recv(1 << 16)
                if not data or (rule is not None and rule.deed == "hold answer" and not _await(rule, client)):
                    return
                self.flows.wait()
                client.sendall(data)


def _socket(address: Address) -> socket.socket:
    return socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)


def _let_through(rule: Rule, client: socket.socket) -> bool:
    """Do to a request what its rule says; whether the server is to see it."""
    if rule.deed == "hold answer":
        return True
    if rule.deed == "hold request":
        return _await(rule, client)
    rule.reached.set()
    if rule.deed == "fail":
        client.sendall(_ANSWER)
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
