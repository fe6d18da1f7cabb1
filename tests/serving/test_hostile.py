# SPDX-License-Identifier: Apache-2.0
"""
What is sent to hurt the server is refused, costs little, and leaves the server as it was. The bytes go over sockets as they are: an HTTP client would
not send most of them.
"""

from __future__ import annotations

import gzip
import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psutil
import pytest

from tests.parts.model_server import PATIENCE, ModelServer, read_all, running_server, tensor, until

pytestmark = pytest.mark.slow

MEBI = 1 << 20
INFER = "/v2/models/iris/infer"
ROW = json.dumps({"inputs": [tensor([[6.0, 3.0, 5.0, 2.0]])], "outputs": [{"name": "predict"}]}).encode()
SPARE = 80 * MEBI
"""What the memory of the server may grow by while it refuses something. Its own garbage and that of a body of a mebibyte is below it."""


def post(body: bytes = b"", *headers: str, length: int | None = None, path: str = INFER) -> bytes:
    """A request; its length is that of the body unless another one, or none (-1), is said."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    """The status of an answer in JSON that says what is wrong."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert list(json.loads(body)) == ["error"]
    return int(head.split()[1])


@pytest.fixture(autouse=True)
def unharmed(server: ModelServer) -> Iterator[None]:
    """After each test the server answers as before and has not grown."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    yield
    answer = server.client.post(INFER, content=ROW)
    assert answer.json()["outputs"][0]["data"] == [2]
    assert process.memory_info().rss < before + SPARE
    assert "Traceback" not in server.log.read_text()


class TestBodies:
    @pytest.mark.parametrize("shape", [[10**12], [10**6, 10**6], [2**62, 2**62], [1, 10**12]])
    def test_ten_to_the_twelfth_elements_are_refused(self, shape: list[int], server: ModelServer) -> None:
        body = json.dumps({"inputs": [tensor([[1.0]]) | {"shape": shape}]}).encode()
        began = time.perf_counter()
        assert status_of(server.exchange(post(body, "Connection: close"))) == 400
        assert time.perf_counter() - began < 5

    @pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"inputs":', b"}")])
    def test_100000_levels_of_json_are_refused(self, pair: tuple[bytes, bytes], server: ModelServer) -> None:
        body = pair[0] * 90_000 + b"1" + pair[1] * 90_000 if pair[0] != b"[" else b"[" * 100_000 + b"]" * 100_000
        assert status_of(server.exchange(post(body[: MEBI - 1], "Connection: close"))) == 400

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"\x00" * 1000,
            b"NaN",
            b'{"inputs":NaN}',
            b"null",
            b'"' + b"a" * 1000 + b'"',
            ROW + b"x",
        ],
    )
    def test_what_is_no_request_is_refused(self, body: bytes, server: ModelServer) -> None:
        assert status_of(server.exchange(post(body, "Connection: close"))) == 400

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "GZIP", "identity, gzip"])
    def test_a_bomb_of_gzip_is_refused(self, encoding: str, server: ModelServer) -> None:
        bomb = gzip.compress(b"[" + b"1," * (50 * MEBI) + b"1]", compresslevel=1)[: MEBI // 2]
        assert status_of(server.exchange(post(bomb, f"Content-Encoding: {encoding}"))) == 415

    def test_tensors_in_binary_form_are_refused(self, server: ModelServer) -> None:
        assert status_of(server.exchange(post(ROW, "Inference-Header-Content-Length: 10"))) == 415

    def test_many_small_parts_are_refused_or_answered(self, server: ModelServer) -> None:
        for body in (
            b"[" + b"[]," * 300_000 + b"1]",
            b'{"inputs":[' + b"{}," * 300_000 + b"1]}",
            b'{"inputs":' + b"1" * 900_000 + b"}",
        ):
            assert status_of(server.exchange(post(body, "Connection: close"))) == 400

    def test_a_body_beyond_the_limit_is_refused_before_it_comes(self, server: ModelServer) -> None:
        with server.connect() as connection:
            connection.sendall(post(length=MEBI + 1))
            assert status_of(read_all(connection)) == 413

    def test_who_sends_all_of_it_reads_why_it_was_refused(self, server: ModelServer) -> None:
        # This client, like others, does not look for an answer once it cannot send any more.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        with closing(connection):
            connection.request("POST", INFER, b"x" * (16 * MEBI))
            assert connection.getresponse().status == 413

    @pytest.mark.parametrize("size", [1, 1000, MEBI // 2])
    def test_chunks_beyond_the_limit_are_refused(self, size: int, server: ModelServer) -> None:
        head = post(b"", "Transfer-Encoding: chunked", length=-1)
        chunk = f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"
        status = status_of(server.exchange(head, *[chunk * (2 * MEBI // size // 8 + 1)] * 8))
        assert status == 413 or (status, size) == (408, 1), "a million chunks may take longer than a body may"

    @pytest.mark.parametrize(
        "chunk", ["FFFFFFFFFFFFFFFF\r\n", "-1\r\n", "x\r\n", "1" * 100 + "\r\n", "2\r\nabc\r\n", "5;" + "e" * 100_000]
    )
    def test_chunks_of_no_size_are_refused(self, chunk: str, server: ModelServer) -> None:
        answer = server.exchange(post(b"", "Transfer-Encoding: chunked", length=-1), chunk.encode())
        assert b" 200 " not in answer
        assert status_of(answer) in (400, 408)

    def test_one_that_drips_is_given_up(self, server: ModelServer) -> None:
        with server.connect() as connection:
            connection.sendall(post(length=1000))
            began = time.monotonic()
            drip(connection, b"[")
            assert status_of(read_all(connection)) == 408
            assert time.monotonic() - began < 10

    def test_one_that_does_not_come_is_given_up(self, server: ModelServer) -> None:
        with server.connect() as connection:
            connection.sendall(post(length=10))
            assert status_of(read_all(connection)) == 408

    def test_one_that_is_cut_off_leaves_nothing(self, server: ModelServer) -> None:
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(post(b"x" * 100_000, length=MEBI))

    @pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/metrics", "/nowhere"])
    def test_nothing_else_takes_one(self, path: str, server: ModelServer) -> None:
        for method in (b"GET", b"POST"):
            request = method + post(b"x" * 10, path=path).removeprefix(b"POST")
            assert status_of(server.exchange(request)) == 400
            endless = method + post(b"", "Transfer-Encoding: chunked", length=-1, path=path).removeprefix(b"POST")
            with server.connect() as connection:
                connection.sendall(endless)
                drip(connection, b"1\r\nx\r\n")
                assert status_of(read_all(connection)) == 400


def drip(connection: socket.socket, piece: bytes) -> None:
    """Send a piece every tenth of a second until there is an answer."""
    with suppress(ConnectionError):
        while not select.select([connection], [], [], 0.1)[0]:
            connection.sendall(piece)


class TestHeads:
    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 5", "Content-Length: 6"),
            ("Content-Length: 5, 6",),
            ("Content-Length: -1",),
            ("Content-Length: +5",),
            ("Content-Length: 5_0",),
            ("Content-Length: 0x10",),
            ("Content-Length: ",),
            ("Content-Length: 99999999999999999999999999",),
            ("Content-Length : 5",),
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: gzip, chunked",),
            ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: identity",),
            ("X: a\x00b",),
            ("no colon",),
        ],
    )
    def test_one_that_can_be_read_in_two_ways_is_refused(self, lines: tuple[str, ...], server: ModelServer) -> None:
        before = server.measured("mlops_serve_predict_seconds_count")
        answer = server.exchange(post(ROW, *lines, length=-1))
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
        assert answer.count(b"HTTP/1.1 ") == 1, "the rest is not taken for another request"
        assert server.measured("mlops_serve_predict_seconds_count") == before

    @pytest.mark.parametrize("data", [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n",
        b"GET /v2\r\n\r\n", b"GET /v2 HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000, b"GET /v2 HTTP/1.1\r\n" + b"X: a\r\n" * 100_000, b"GET /" + b"a" * 100_000,
    ])  # fmt: skip
    def test_what_is_no_http_is_refused(self, data: bytes, server: ModelServer) -> None:
        answer = server.exchange(data)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 408 ")) or answer == b"", (
            "a reset may take the answer along"
        )

    def test_one_that_drips_is_given_up(self, server: ModelServer) -> None:
        with server.connect() as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n")
            began = time.monotonic()
            drip(connection, b"X: y\r\n")
            assert status_of(read_all(connection)) == 408
            assert time.monotonic() - began < 10

    def test_a_second_one_that_drips_is_given_up_as_well(self, server: ModelServer) -> None:
        with server.connect() as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            first = b""
            while b"airflow-mlops-server" not in first:
                first += connection.recv(4096)
            connection.sendall(b"GET /v2 HTTP/1.1\r\n")
            drip(connection, b"X: y\r\n")
            assert status_of(read_all(connection)) == 408

    def test_one_that_begins_together_with_an_earlier_request_is_given_up(self, server: ModelServer) -> None:
        answer = server.exchange(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\nGET /v2 HTTP/1.1\r\n")
        first, _, second = answer.partition(b"HTTP/1.1 408 ")
        assert b"airflow-mlops-server" in first
        assert b"the head of the request did not come" in second

    def test_who_says_nothing_is_not_kept(self, server: ModelServer) -> None:
        with server.connect() as connection:
            assert status_of(read_all(connection)) == 408

    def test_hundreds_that_drip_keep_nobody_else_waiting(self, server: ModelServer) -> None:
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect()) for _ in range(300)]
            for number, connection in enumerate(connections):
                connection.sendall(b"POST /v2 HT" if number % 2 else post(b"[", length=1000))
            answer = server.get("/v2/health/live")
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < 1
            for connection in connections:
                assert status_of(read_all(connection)) == 408

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/../v2",
            "/v2/models/%00",
            "/v2/models/iris%00/infer",
            "/v2/models/" + "a" * 10_000,
            "//x",
            "/v2/models/%ff%fe",
            "*",
        ],
    )
    def test_odd_paths_are_no_paths(self, path: str, server: ModelServer) -> None:
        answer = server.exchange(post(ROW if path.endswith("/infer") else b"", "Connection: close", path=path))
        assert status_of(answer) in (404, 405)

    def test_another_protocol_is_not_switched_to(self, server: ModelServer) -> None:
        upgrade = b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
        assert server.exchange(upgrade).startswith(b"HTTP/1.1 200 ")


class TestMemory:
    def test_all_bodies_together_are_bounded(self, server: ModelServer) -> None:
        """The fixture's bound is eight bodies; thirty are sent but for their last byte."""
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect()) for _ in range(30)]
            for connection in connections:
                with suppress(ConnectionError):
                    connection.sendall(post(b" " * (MEBI - 1), length=MEBI))
            statuses = [status_of(read_all(connection)) for connection in connections]
        assert set(statuses) <= {408, 503}
        assert statuses.count(503) >= 20
        until(lambda: server.client.post(INFER, content=ROW).status_code == 200)

    def test_connections_are_bounded(self, skops_file: Path, tmp_path: Path) -> None:
        with running_server(skops_file, tmp_path / "log", connections=5) as other, ExitStack() as stack:
            others = [stack.enter_context(other.connect()) for _ in range(4)]
            for (
                connection
            ) in others:  # each is known to the server once it is answered; the client of the test is the fifth
                connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4096)
            assert status_of(other.exchange(b"")) == 503
            others[0].close()
            until(
                lambda: other.exchange(b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(
                    b"HTTP/1.1 200"
                )
            )

    def test_who_does_not_read_the_answer_is_not_kept(self, skops_file: Path, tmp_path: Path) -> None:
        with running_server(skops_file, tmp_path / "log", keep_alive_seconds=1) as other:
            request = json.dumps(
                {"inputs": [{"name": "input", "shape": [200_000, 4], "datatype": "FP64", "data": [0] * 800_000}]}
            )
            process = psutil.Process(other.pid)
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", other.port))
                mine = connection.getsockname()
                connection.sendall(post(request.encode()))
                until(lambda: b'"status":200' in other.log.read_bytes().split(b"/infer")[-1])
                until(lambda: not any(one.raddr == mine for one in process.net_connections("tcp")))
