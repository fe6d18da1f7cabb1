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
from pathlib import Path
from typing import Literal

Deed = Literal["hold request", "hold answer", "cut", "fail"]
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
    """

    pattern: str
    deed: Deed
    released: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def holds(self, line: str) -> bool:
        return not self.released.is_set() and re.search(self.pattern, line) is not None


class Proxy:
    """
    Listens on one Unix socket and speaks to another.

    :param listen: path of its own socket
    :param server: path of the server's socket
    """

    def __init__(self, listen: Path, server: str) -> None:
        self._server = server
        self._rules: list[Rule] = []
        self._connections: set[socket.socket] = set()
        self.requests: list[str] = []
        """First lines of all requests, in order."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(listen))
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

    def close(self) -> None:
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
        with closing(client), closing(socket.socket(socket.AF_UNIX)) as server, suppress(OSError):
            self._connections.add(client)
            try:
                server.connect(self._server)
                self._pass_on(client, server)
            finally:
                self._connections.discard(client)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Bytes both ways. A request begins where a first line of one is seen at the start of what a client sends."""
        answer_of: Rule | None = None
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                data = client.recv(1 << 16)
                if not data:
                    return
                if match := re.match(rb"(GET|POST|PUT|DELETE|HEAD) (\S+) HTTP/1\.1\r\n", data):
                    line = f"{match[1].decode()} {match[2].decode()}"
                    self.requests.append(line)
                    rule = next((rule for rule in self._rules if rule.holds(line)), None)
                    answer_of = None
                    if rule is not None:
                        rule.reached.set()
                        if rule.deed == "cut":
                            return
                        if rule.deed == "fail":
                            client.sendall(_ANSWER)
                            return
                        if rule.deed == "hold request" and not _await(rule, client):
                            return
                        answer_of = rule if rule.deed == "hold answer" else None
                server.sendall(data)
            if server in ready:
                data = server.recv(1 << 16)
                if not data:
                    return
                if answer_of is not None and not _await(answer_of, client):
                    return
                client.sendall(data)


def _await(rule: Rule, client: socket.socket) -> bool:
    """Wait for a rule's end; whether the client is still there then."""
    while not rule.released.wait(0.05):
        readable, _, _ = select.select([client], [], [], 0)
        if readable and not client.recv(1, socket.MSG_PEEK):
            return False
    return True


@contextmanager
def proxied(listen: Path, server: str) -> Iterator[Proxy]:
    """A proxy for as long as the block lasts."""
    proxy = Proxy(listen, server)
    try:
        yield proxy
    finally:
        proxy.close()
