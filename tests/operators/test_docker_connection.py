# SPDX-License-Identifier: Apache-2.0
"""What a connection says of a Docker daemon, as far as it can be told without one; ``test_remote_docker.py`` has real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("airflow")

from airflow_mlops.operators.docker import DockerContainerOperator
from airflow_mlops.operators.docker_connection import named_host
from airflow_mlops.operators.docker_tls import in_memory
from airflow_mlops.operators.failures import BadStep
from tests.parts.remote_daemon import Authority

pytestmark = pytest.mark.airflow


def connection(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINER", json.dumps({"conn_type": "docker", **fields}))


@pytest.mark.parametrize(
    ("host", "port", "certified", "url"),
    [
        ("trainer.example", None, True, "tcp://trainer.example:2376"),
        ("trainer.example", None, False, "tcp://trainer.example:2375"),
        ("trainer.example", 4000, True, "tcp://trainer.example:4000"),
        ("10.0.0.7:4000", None, False, "tcp://10.0.0.7:4000"),
        ("tcp://10.0.0.7:4000", 1, True, "tcp://10.0.0.7:4000"),
        ("https://trainer.example/", None, False, "tcp://trainer.example:2376"),
        ("fd00::7", 4000, True, "tcp://[fd00::7]:4000"),
        ("tcp://[fd00::7]:4000", None, True, "tcp://[fd00::7]:4000"),
        ("unix:///run/other.sock", None, False, "unix:///run/other.sock"),
    ],
)
def test_a_host_is_a_name_an_address_or_a_url(
    monkeypatch: pytest.MonkeyPatch, host: str, port: int | None, certified: bool, url: str
) -> None:
    extra = {"ca_cert": Authority("of the tests").certificate} if certified else {}
    connection(monkeypatch, host=host, port=port, extra=extra)
    found = named_host("trainer")
    assert found.url == url
    assert found.tls == (certified or host.startswith("https:"))
    assert "BEGIN" not in repr(found)


@pytest.mark.parametrize(
    "host", ["ssh://trainer", "tcp://trainer/path?x=1", "tcp://me@trainer", "tcp://trainer:port", "unix://"]
)
def test_a_host_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    connection(monkeypatch, host=host)
    with pytest.raises(
        BadStep, match="Docker host, connection 'trainer': its host is not the address of a Docker daemon"
    ):
        named_host("trainer")


def test_a_socket_with_certificates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, host="unix:///run/other.sock", extra={"ca_cert": Authority("of the tests").certificate})
    with pytest.raises(BadStep, match="a socket speaks no TLS"):
        named_host("trainer")


def test_a_key_that_is_encrypted_asks_nobody_for_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = Authority("of the tests").sign("worker")
    key = serialization.load_pem_private_key(pair.key.encode(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw"))
    extra = {"client_cert": pair.certificate, "client_key": key.private_bytes(*form).decode()}
    connection(monkeypatch, host="trainer", extra=extra)
    with pytest.raises(BadStep, match="in PEM form with its key, unencrypted"):
        named_host("trainer")


def test_a_text_in_memory_is_a_file_of_ours_alone_and_gone_afterwards() -> None:
    with in_memory("one", "two") as paths:
        assert [Path(path).read_text() for path in paths] == ["one", "two"]
        assert {os.stat(path).st_mode & 0o777 for path in paths} == {0o400}
    assert not any(Path(path).exists() for path in paths)


def test_a_url_and_a_connection_exclude_each_other() -> None:
    with pytest.raises(BadStep, match="expected one of them"):
        DockerContainerOperator(task_id="step", image="x", docker_url="tcp://a:1", docker_host_conn_id="trainer")


def test_nothing_is_looked_up_when_an_operator_is_made() -> None:
    operator = DockerContainerOperator(task_id="step", image="x", docker_host_conn_id="nobody")
    assert operator.docker_host_conn_id == "nobody"
    with pytest.raises(BadStep, match="Airflow has no connection 'nobody'; create it with `airflow connections add`"):
        _ = operator.cli
