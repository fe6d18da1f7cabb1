# SPDX-License-Identifier: Apache-2.0
"""
Requests a second of the model server, and how long one takes: keep-alive clients on the loopback interface, the same pipeline (StandardScaler and
LogisticRegression on iris) by skops and by ONNX.

CPU ms are those that the server's process takes for a request, which says more than requests a second where something else runs beside it. The
clients are one process that sends bytes that were made before and reads just enough of the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.parts.model_server import iris_onnx, iris_skops, running_server, tensor  # noqa: E402

FLOWER = [6.0, 3.0, 5.0, 2.0]


def request_of(rows: int, datatype: str, name: str, output: str | None) -> bytes:
    """A request as it goes over the wire."""
    document = {"inputs": [tensor([FLOWER] * rows, datatype, name)]}
    if output is not None:
        document["outputs"] = [{"name": output}]
    body = json.dumps(document).encode()
    head = f"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def client(port: int, request: bytes, until: float, seconds: list[float]) -> None:
    """Ask again and again on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        seconds.append(time.perf_counter() - began)
    writer.close()


async def load(port: int, request: bytes, clients: int, duration: float) -> list[float]:
    """The seconds of all requests."""
    seconds: list[float] = []
    until = time.perf_counter() + duration
    await asyncio.gather(*(client(port, request, until, seconds) for _ in range(clients)))
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = {
            "skops": (iris_skops(folder / "model.skops"), "FP64", "input", "predict"),
            "onnx": (iris_onnx(folder / "model.onnx", options={"zipmap": False}), "FP32", "X", "label"),
        }
        print("model  log  rows clients    req/s   p50 ms   p99 ms  CPU ms   RSS MB")
        for name, (model, datatype, given, output) in models.items():
            for log in ("on", "off"):
                with running_server(model, folder / "log", access_log=log) as server:
                    process = psutil.Process(server.pid)
                    for rows, clients in ((1, 16), (1, 1), (1000, 1)):
                        request = request_of(rows, datatype, given, output)
                        asyncio.run(load(server.port, request, clients, options.seconds / 4))  # warm
                        before = process.cpu_times()
                        seconds = asyncio.run(load(server.port, request, clients, options.seconds))
                        after = process.cpu_times()
                        busy = after.user + after.system - before.user - before.system
                        cuts = statistics.quantiles(seconds, n=100)
                        memory = process.memory_info().rss / 1e6
                        print(
                            f"{name:6} {log:4} {rows:4} {clients:7} {len(seconds) / options.seconds:8.0f} "
                            f"{cuts[49] * 1000:8.2f} {cuts[98] * 1000:8.2f} "
                            f"{busy / len(seconds) * 1000:7.2f} {memory:8.0f}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
