# SPDX-License-Identifier: Apache-2.0
"""
Run a program in a pod's container on the terminal of this process, over a web socket to the API server (``pods/exec``).

The client's own class for sessions knows of no window and leaves lying what came in one TLS record with something before it, so its connection
alone is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubernetes.client import ApiException
from kubernetes.stream import stream
from websocket import ABNF

from airflow_mlops.operators.failures import InfrastructureFailure, PolicyViolation
from airflow_mlops.operators.kubernetes_state import STEP

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

_STDIN, _STDOUT, _STDERR, _STATUS, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
"""Channels of ``v5.channel.k8s.io``: each message begins with the number of one."""

_KNOWS_CLOSE = "v5.channel.k8s.io"
"""The version from which on a client can say that there is no more input."""

_QUIET = 20.0
"""Seconds of silence after which something is said: what lies on the way drops connections that are idle for long."""

_CHUNK = 16 << 10
"""Bytes that a socket which can be written to takes without making anybody wait, who could not read meanwhile."""

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


class Session:
    """
    One program in a container, and the connection to it.

    :param argv: what is run
    :param terminal: whether it runs on a terminal
    :raises PolicyViolation: if this account may not
    """

    def __init__(
        self, core: CoreV1Api, namespace: str, pod: str, argv: Sequence[str], *, terminal: bool, task_id: str
    ) -> None:
        self._task_id = task_id
        self._spoken = time.monotonic()
        try:
            connection = stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=STEP,
                command=list(argv),
                stdin=True,
                stdout=True,
                stderr=not terminal,
                tty=terminal,
                _preload_content=False,
            )
        except (ApiException, AttributeError) as error:
            # The client stumbles over an error of its own that has no body.
            told = error if isinstance(error, ApiException) else error.__context__
            if not isinstance(told, ApiException):
                raise
            raise _refused(told, namespace, task_id) from told
        self._socket: Any = connection.sock

    def fileno(self) -> int:
        """For those who wait until something comes."""
        return int(self._socket.sock.fileno())

    def send(self, data: bytes, channel: int = _STDIN) -> None:
        """Give the program something to read."""
        self._speak(lambda: self._socket.send_binary(bytes([channel]) + data))

    def end_input(self) -> None:
        """Say that there is no more to read, where the server can be told."""
        if self._socket.getheaders().get("sec-websocket-protocol") == _KNOWS_CLOSE:
            self.send(bytes([_STDIN]), _CLOSE)

    def resize(self, size: os.terminal_size) -> None:
        """Give the program's terminal a size."""
        self.send(json.dumps({"Width": size.columns, "Height": size.lines}).encode(), _RESIZE)

    def keep_alive(self) -> None:
        """Say something if nothing was said for long."""
        if time.monotonic() - self._spoken > _QUIET:
            self._speak(self._socket.ping)

    def has_more(self) -> bool:
        """Whether something has come that those who wait for the descriptor would not see."""
        pending = getattr(self._socket.sock, "pending", None)
        return pending is not None and pending() > 0

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """
        What has come, by channel; waits for the first of it.

        :raises InfrastructureFailure: if the connection was lost
        """
        while True:
            try:
                opcode, frame = self._socket.recv_data_frame(True)
            except Exception as error:  # the library has classes of its own beside those of sockets
                raise self._lost(error) from error
            if opcode == ABNF.OPCODE_CLOSE:
                raise self._lost("it was closed before the end of the program was told")
            if opcode in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
                yield frame.data[0], frame.data[1:]
            if not self.has_more():
                return

    def close(self) -> None:
        """Let go of it; the program may go on."""
        with contextlib.suppress(Exception):  # nothing depends on it
            self._socket.sock.close()

    def _speak(self, say: Callable[[], object]) -> None:
        self._spoken = time.monotonic()
        try:
            say()
        except Exception as error:  # as above
            raise self._lost(error) from error

    def _lost(self, reason: object) -> InfrastructureFailure:
        return InfrastructureFailure(f"step '{self._task_id}': the connection to its pod was lost: {reason}")


def on_terminal(session: Session, *others: Session, terminal: bool) -> int:
    """
    Connect a program to this process's input and output until it ends. On a terminal, all keys are for the program.

    :param others: connections that are to live as long
    :param terminal: whether it runs on one
    :return: its exit code
    :raises InfrastructureFailure: if the connection was lost
    """
    with _raw_terminal() if terminal else contextlib.nullcontext(), _resizes(session, enabled=terminal) as resized:
        return _connected(session, others, resized)


def _connected(session: Session, others: Sequence[Session], resized: int | None) -> int:
    keys = _Input(session)
    while True:
        poll = select.poll()
        poll.register(session, select.POLLIN | (select.POLLOUT if keys.waiting else 0))
        for descriptor in (*others, resized, keys.awaited()):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        ready = dict(poll.poll(0 if session.has_more() else _QUIET / 2 * 1000))
        _look_after(session, others, ready)
        if resized is not None and resized in ready:
            os.read(resized, _CHUNK)
            session.resize(os.get_terminal_size(sys.stdout.fileno()))
        keys.carry(ready)
        has_come = ready.get(session.fileno(), 0) & ~select.POLLOUT or session.has_more()
        if has_come and (code := _taken_in(session)) is not None:
            return code


def _look_after(session: Session, others: Sequence[Session], ready: Mapping[int, int]) -> None:
    for one in others:
        if one.fileno() in ready:
            deque(one.messages(), maxlen=0)  # it has nothing to say but that it lives
    for one in (session, *others):
        one.keep_alive()


class _Input:
    """What this process is given to read, on its way to a program: a piece at a time, and only when the connection takes it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._source = _own_input()
        self.waiting = b""

    def awaited(self) -> int | None:
        """The descriptor that is to be read next, if one is."""
        return None if self.waiting else self._source

    def carry(self, ready: Mapping[int, int]) -> None:
        """Send what was read, and read what there is."""
        if self.waiting and ready.get(self._session.fileno(), 0) & select.POLLOUT:
            self._session.send(self.waiting)
            self.waiting = b""
        elif (source := self.awaited()) is not None and source in ready:
            self.waiting = _read(source)
            if not self.waiting:
                self._session.end_input()
                self._source = None


def _taken_in(session: Session) -> int | None:
    """Show what has come; the exit code if that was told."""
    code = None
    for channel, data in session.messages():
        if channel in (_STDOUT, _STDERR):
            _write(channel, data)
        elif channel == _STATUS:
            code = _exit_code(data)
    return code


def _exit_code(status: bytes) -> int:
    """How the program ended, as the API server says it; what it says of one that cannot be run is shown."""
    try:
        said = json.loads(status)
        if said["status"] == "Success":
            return 0
        if said.get("reason") == "NonZeroExitCode":
            return int(next(cause["message"] for cause in said["details"]["causes"] if cause["reason"] == "ExitCode"))
        message = str(said.get("message"))
    except (ValueError, TypeError, KeyError, StopIteration):
        message = status.decode(errors="replace")
    sys.stderr.write(f"{message}\n")
    found_none = "not found" in message or "no such file" in message
    return _NOT_FOUND if found_none else _NOT_EXECUTABLE


def _own_input() -> int | None:
    try:
        return sys.stdin.fileno() if sys.stdin is not None else None
    except (OSError, ValueError):
        return None


def _read(descriptor: int) -> bytes:
    """What there is to read; nothing at its end, or if the terminal is gone."""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Within, keys are not looked at on this side: Ctrl-C and the like are the program's."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed already is for the program, too
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it may have been closed
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizes(session: Session, *, enabled: bool) -> Iterator[int | None]:
    """Within, what is read from a descriptor says that the window has another size; ``None`` where there is no window."""
    if not enabled:
        yield None
        return
    reader, writer = os.pipe2(os.O_NONBLOCK)

    def changed(_: int, __: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b".")

    before = signal.signal(signal.SIGWINCH, changed)
    os.write(writer, b".")  # it has one at the beginning, too
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)


def _refused(error: ApiException, namespace: str, task_id: str) -> InfrastructureFailure | PolicyViolation:
    """What the server's answer means; the client hands on what a web socket says of it, headers and all."""
    reason, _, rest = str(error.reason).partition(" -+-+- ")
    said = rest.rpartition(" -+-+- ")[2]
    # As it came, or as Python writes bytes.
    for text in (said, said.removeprefix("b'").removesuffix("'").encode().decode("unicode_escape")):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = str(json.loads(text)["message"])
            break
    if "403" in reason:
        return PolicyViolation(
            f"step '{task_id}': this account may not run commands in pods of namespace '{namespace}': {said or reason}; "
            "docs/kubernetes-person-role.yaml has the rights for that"
        )
    return InfrastructureFailure(
        f"step '{task_id}': no command can be run in its pod: {said or reason or error.status}"
    )
