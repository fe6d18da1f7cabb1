# SPDX-License-Identifier: Apache-2.0
"""The server as its clients and routers see it: a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from airflow_mlops.artifacts import digest_path
from tests.parts.held_model import LoadsLate
from tests.parts.model_server import (
    COMMAND,
    PATIENCE,
    ModelServer,
    exit_code,
    held,
    iris_onnx,
    pickled,
    read_all,
    running_server,
    server_environment,
    tensor,
    until,
)
from tests.parts.processes import is_running
from tests.parts.s3 import free_port

pytestmark = pytest.mark.slow

FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]]
TOKEN = "0123456789abcdef" * 2


def _held_request(value: float) -> bytes:
    """A request to the model that answers when it is released, after which the server closes the connection."""
    body = json.dumps({"inputs": [tensor([[value]])]}).encode()
    head = f"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _refuses_connections(server: ModelServer) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def _status(client: httpx.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0


class TestProtocol:
    def test_it_lives_and_is_ready(self, server: ModelServer) -> None:
        answer = server.get("/v2/health/live")
        assert (answer.status_code, answer.json()) == (200, {"live": True})
        answer = server.get("/v2/health/ready", x_mlops_server="iris-0")
        assert (answer.status_code, answer.json()) == (200, {"ready": True})
        assert server.get("/v2").json()["name"] == "airflow-mlops-server"

    @pytest.mark.parametrize("path", ["/v2/models/iris", "/v2/models/iris/versions/3"])
    def test_a_model_says_what_it_is(self, path: str, server: ModelServer) -> None:
        assert server.get(f"{path}/ready", x_mlops_server="iris-0").json() == {"name": "iris", "ready": True}
        found = server.get(path).json()
        assert (found["name"], found["versions"], found["platform"]) == ("iris", ["3"], "sklearn")
        assert found["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}]
        assert [one["name"] for one in found["outputs"]] == ["predict", "predict_proba"]

    @pytest.mark.parametrize("path", ["/v2/models/iris/infer", "/v2/models/iris/versions/3/infer"])
    def test_it_predicts(self, path: str, server: ModelServer) -> None:
        answer = server.infer(tensor(FLOWERS), path=path, id="mine", outputs=[{"name": "predict"}])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "model_name": "iris",
            "model_version": "3",
            "id": "mine",
            "outputs": [{"name": "predict", "shape": [2], "datatype": "INT64", "data": [0, 2]}],
        }

    def test_a_thousand_rows_are_one_request(self, server: ModelServer) -> None:
        predicted, probabilities = server.infer(tensor(FLOWERS * 500)).json()["outputs"]
        assert (predicted["shape"], predicted["data"]) == ([1000], [0, 2] * 500)
        assert probabilities["shape"] == [1000, 3]

    def test_every_answer_says_which_model_gave_it(self, server: ModelServer, skops_file: Path) -> None:
        for answer in (server.get("/v2"), server.infer(tensor(FLOWERS)), server.infer(), server.get("/nowhere")):
            assert answer.headers["mlops-model-version"] == "3"
            assert answer.headers["mlops-model-digest"] == digest_path(skops_file).digest

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/models/rose",
            "/v2/models/iris/versions/4",
            "/v2/models/iris%2f..%2fx",
            "/v2/modelsx",
            "/v2/models/iris/",
            "/x",
            "/docs",
            "/openapi.json",
        ],
    )
    def test_nothing_else_is_served(self, path: str, server: ModelServer) -> None:
        for suffix in ("", "/ready"):
            answer = server.get(f"{path}{suffix}")
            assert (answer.status_code, list(answer.json())) == (404, ["error"])
        answer = server.infer(tensor(FLOWERS), path=f"{path}/infer")
        assert (answer.status_code, list(answer.json())) == (404, ["error"])

    def test_another_method_is_refused(self, server: ModelServer) -> None:
        for answer in (server.get("/v2/models/iris/infer"), server.client.delete("/v2/models/iris")):
            assert (answer.status_code, answer.json()) == (405, {"error": "the path takes another method"})

    def test_a_request_that_does_not_fit_is_the_clients_fault(self, server: ModelServer) -> None:
        for one in (tensor(FLOWERS, "BYTES"), tensor(FLOWERS, name="x"), tensor([[1.0, 2.0]]), {}):
            answer = server.infer(one)
            assert answer.status_code == 400
            assert "expected" in answer.json()["error"] or "lacks" in answer.json()["error"]
        assert server.infer(tensor([[1.0, 2.0, 3.0, None]])).json()["error"].startswith("the model does not take these")

    def test_a_server_that_is_not_the_one_that_is_meant_is_not_ready(self, server: ModelServer) -> None:
        for path in ("/v2/health/ready", "/v2/models/iris/ready"):
            for meant, status in (("iris-0", 200), ("iris-1", 503), ("", 503)):
                answer = server.get(path, x_mlops_server=meant)
                assert (answer.status_code, answer.json()["ready"]) == (status, status == 200)
            assert server.get(path).status_code == 200

    def test_an_onnx_model_is_served_as_well(self, tmp_path: Path) -> None:
        for package in ("onnx", "onnxruntime", "skl2onnx"):
            pytest.importorskip(package, reason="makes or loads models in ONNX; run: pip install onnxruntime skl2onnx")
        with running_server(iris_onnx(tmp_path / "model.onnx"), tmp_path / "log") as server:
            assert server.get("/v2/models/iris").json()["platform"] == "onnxruntime_onnx"
            label, _ = server.infer(tensor(FLOWERS * 500, "FP32", "X")).json()["outputs"]
            assert label["data"] == [0, 2] * 500
            assert server.infer(tensor(FLOWERS, "FP64", "X")).status_code == 400


@pytest.fixture(scope="module")
def guarded(skops_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server that wants a token."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(f"{TOKEN}\n")
    with running_server(skops_file, folder / "log", token_file=folder / "token") as found:
        yield found


class TestToken:
    def test_it_is_wanted_for_all_but_health_checks(self, guarded: ModelServer) -> None:
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/iris/ready"):
            assert guarded.get(path).status_code == 200
        for path in ("/v2", "/v2/models/iris", "/metrics", "/nowhere"):
            answer = guarded.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert guarded.infer(tensor(FLOWERS)).status_code == 401

    @pytest.mark.parametrize(
        "given", [f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer \xff"]
    )
    def test_another_one_is_refused(self, given: str, guarded: ModelServer) -> None:
        headers = {"authorization": given.encode("latin-1")}
        assert guarded.client.get("/v2/models/iris", headers=headers).status_code == 401

    def test_with_it_the_server_answers(self, guarded: ModelServer) -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = guarded.client.post("/v2/models/iris/infer", json={"inputs": [tensor(FLOWERS)]}, headers=headers)
        assert answer.status_code == 200
        assert TOKEN not in guarded.log.read_text()


class TestBounds:
    def test_what_is_too_much_is_refused_at_once_and_health_is_answered(
        self, held_server: ModelServer, tmp_path: Path
    ) -> None:
        with held_server.connect() as first, held_server.connect() as second:
            first.sendall(_held_request(1))
            until((tmp_path / "held" / "began-1").exists)
            second.sendall(_held_request(2))
            until(lambda: held_server.measured("mlops_serve_requests_waiting") == 1)
            answer = held_server.infer(tensor([[3.0]]))
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert "1 predictions run and 1 requests wait" in answer.json()["error"]
            for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/iris"):
                answer = held_server.get(path)
                assert answer.status_code == 200
                assert answer.elapsed.total_seconds() < 1
            (tmp_path / "held" / "released").touch()
            for number, connection in ((1, first), (2, second)):
                assert b'"data":[%d.0]' % number in read_all(connection)
        assert held_server.infer(tensor([[3.0]])).status_code == 200
        assert not (tmp_path / "held" / "began-3.5").exists()

    def test_what_takes_too_long_is_given_up_and_keeps_its_place(self, tmp_path: Path) -> None:
        model = held(tmp_path / "held")
        bounds = {"formats": "pickle", "concurrency": 1, "queue": 1, "request_seconds": 0.5}
        with running_server(model, tmp_path / "log", **bounds) as server:
            answer = server.infer(tensor([[1.0]]))
            assert (answer.status_code, answer.json()) == (504, {"error": "the model did not answer within 0.5 s"})
            answer = server.infer(tensor([[0.0]]))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "waited 0.5 s for its turn" in answer.json()["error"]
            assert server.get("/v2/health/live").status_code == 503, "nothing would ever be answered again"
            (model.parent / "released").touch()
            until(lambda: server.get("/v2/health/live").status_code == 200)
            assert server.infer(tensor([[0.0]])).status_code == 200

    def test_what_the_model_raises_is_in_the_log_alone(self, held_server: ModelServer) -> None:
        answer = held_server.client.post(
            "/v2/models/iris/infer", json={"inputs": [tensor([[-1.0]])]}, headers={"x-request-id": "my.request-1"}
        )
        assert (answer.status_code, answer.headers["x-request-id"]) == (500, "my.request-1")
        assert answer.json() == {"error": "the model failed; the server's log says more about the request my.request-1"}
        log = held_server.log.read_text()
        assert "the secret of the model" in log
        assert "Traceback" in log
        assert held_server.infer(tensor([[0.0]])).status_code == 200


class TestLogAndMetrics:
    def test_a_request_is_one_line_of_json(self, server: ModelServer) -> None:
        headers = {"x-request-id": "line-1"}
        server.client.post("/v2/models/iris/infer?a=%0a", json={"inputs": [tensor(FLOWERS)]}, headers=headers)
        until(lambda: '"line-1"' in server.log.read_text())  # it is written when the answer is out
        (line,) = [line for line in server.log.read_text().splitlines() if '"line-1"' in line]
        found = json.loads(line)
        assert found["bytes_in"] > 50 < found["bytes_out"]
        assert {name: found[name] for name in ("method", "path", "status", "client", "model", "version")} == {
            "method": "POST", "path": "/v2/models/iris/infer", "status": 200, "client": "127.0.0.1", "model": "iris", "version": "3",
        }  # fmt: skip

    def test_an_id_that_would_spoil_the_log_is_replaced(self, server: ModelServer) -> None:
        for bad in ('a"b', "a b", "x" * 200):
            answer = server.get("/v2", x_request_id=bad)
            assert answer.headers["x-request-id"] != bad
        assert len({server.get("/v2").headers["x-request-id"] for _ in range(5)}) == 5

    def test_every_line_of_the_log_is_json_and_health_checks_are_not_in_it(self, server: ModelServer) -> None:
        server.get("/v2/health/live")
        server.get("/v2/%0a%22{}")
        server.exchange(b"no http\r\n\r\n")
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert not [line for line in lines if line.get("path") == "/v2/health/live" and line["status"] == 200]

    def test_prometheus_is_told(self, server: ModelServer) -> None:
        before = server.measured("mlops_serve_predict_seconds_count")
        server.infer(tensor(FLOWERS))
        assert server.measured("mlops_serve_predict_seconds_count") == before + 1
        text = server.get("/metrics").text
        assert 'mlops_serve_answers_total{model="iris",route="infer",status="200",version="3"}' in text
        assert "mlops_serve_model_info{digest=" in text
        assert "process_resident_memory_bytes" in text

    def test_paths_that_clients_make_up_are_no_labels(self, server: ModelServer) -> None:
        for number in range(20):
            server.get(f"/made-up-{number}")
            server.get(f"/v2/models/made-up-{number}")
        assert "made-up" not in server.get("/metrics").text


class TestEnd:
    def test_a_request_that_runs_is_answered_and_the_server_ends_with_0(
        self, held_server: ModelServer, tmp_path: Path
    ) -> None:
        with held_server.connect() as connection:
            connection.sendall(_held_request(1))
            until((tmp_path / "held" / "began-1").exists)
            os.kill(held_server.pid, 15)
            until(lambda: _refuses_connections(held_server))
            assert is_running(held_server.pid)
            (tmp_path / "held" / "released").touch()
            answer = read_all(connection)
        assert b" 200 OK\r\n" in answer
        assert b'"data":[1.0]' in answer
        assert exit_code(held_server.pid) == 0

    def test_routers_are_told_first_and_requests_are_still_answered(self, skops_file: Path, tmp_path: Path) -> None:
        with running_server(skops_file, tmp_path / "log", drain_seconds=3) as server:
            os.kill(server.pid, 15)
            told = time.monotonic()
            until(lambda: server.get("/v2/health/ready").status_code == 503)
            ending = {"name": "iris", "ready": False, "error": "the server ends"}
            assert server.get("/v2/models/iris/ready").json() == ending
            assert server.get("/v2/health/live").status_code == 200
            with suppress(httpx.TransportError):
                while True:  # a connection each, until there is none to be had
                    answer = server.infer(tensor(FLOWERS))
                    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert time.monotonic() - told >= 3
            assert exit_code(server.pid) == 0

    def test_idle_connections_do_not_hold_it_up(self, skops_file: Path, tmp_path: Path) -> None:
        with running_server(skops_file, tmp_path / "log") as one, one.connect() as idle, one.connect() as begun:
            begun.sendall(b"GET /v2 HTTP/1.1\r\n")
            one.get("/v2")
            os.kill(one.pid, 15)
            assert exit_code(one.pid, seconds=10) == 0
            assert idle.recv(10) == b""

    def test_a_prediction_that_never_ends_does_not_keep_it(self, tmp_path: Path) -> None:
        bounds = {"formats": "pickle", "request_seconds": 0.5, "body_seconds": 0.5}
        with running_server(held(tmp_path / "held"), tmp_path / "log", **bounds) as server:
            assert server.infer(tensor([[1.0]])).status_code == 504
            os.kill(server.pid, 15)
            assert exit_code(server.pid, seconds=10) == 0
            assert "1 predictions run on; they are given up" in server.log.read_text()

    @pytest.mark.parametrize(
        "change, code, message",
        [
            ({"MLOPS_SERVE_DIGEST": f"sha256:{'0' * 64}"}, 1, "It is another model, or was changed"),
            ({"MLOPS_SERVE_FORMATS": "onnx"}, 1, "of the format skops, which is not allowed here"),
            ({"MLOPS_SERVE_PORT": "0"}, 2, "expected a port from 1 to 65535"),
            ({"MLOPS_SERVE_CONCURENCY": "1"}, 2, "MLOPS_SERVE_CONCURENCY is not known"),
        ],
    )
    def test_what_it_cannot_serve_ends_it_with_the_reason(
        self, change: dict[str, str], code: int, message: str, skops_file: Path
    ) -> None:
        environment = server_environment(skops_file, free_port()) | change
        done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == code
        assert message in "\n".join(json.loads(line)["message"] for line in done.stderr.splitlines())

    def test_while_the_model_is_loaded_it_lives_and_is_not_ready(self, tmp_path: Path) -> None:
        model = pickled(LoadsLate(tmp_path / "go"), tmp_path / "model.pkl")
        port = free_port()
        environment = server_environment(model, port, formats="pickle")
        process = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                until(lambda: _status(client, "/v2/health/live") == 200)
                assert _status(client, "/v2/health/ready") == 503
                assert _status(client, "/v2/models/iris") == 503
                answer = client.post("/v2/models/iris/infer", json={"inputs": [tensor([[0.0]])]})
                assert (answer.status_code, answer.json()) == (503, {"error": "the model is being loaded"})
                (tmp_path / "go").touch()
                until(lambda: _status(client, "/v2/health/ready") == 200)
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0

    def test_it_can_be_ended_while_the_model_is_loaded(self, tmp_path: Path) -> None:
        model = pickled(LoadsLate(tmp_path / "never"), tmp_path / "model.pkl")
        port = free_port()
        process = subprocess.Popen(COMMAND, env=server_environment(model, port, formats="pickle"))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            until(lambda: _status(client, "/v2/health/live") == 200)
        process.terminate()
        assert process.wait(PATIENCE) == 0
