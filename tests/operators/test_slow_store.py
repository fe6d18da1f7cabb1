# SPDX-License-Identifier: Apache-2.0
"""Steps as pods of a real cluster on a real S3 server that is slow, asks for less, or is away: seen through a proxy before it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.operators.printing_step import until
from tests.operators.test_kubernetes import Deployment
from tests.parts.proxy import Answer, Proxy, proxied
from tests.parts.s3 import S3Server, new_bucket

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag
    from tests.parts.kubernetes import Cluster
    from tests.parts.namespace import Namespace

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.s3]

SIZE = 5 << 30
RATE = 80 << 20
"""Bytes a second: the upload takes twice the grace that Kubernetes gives a pod by default."""

SLOW_DOWN = Answer(
    503,
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    "application/xml",
)


@dataclass
class Distant:
    """
    A deployment whose store is behind a proxy.

    :param folder: where the server keeps the store's bucket
    """

    deployment: Deployment
    proxy: Proxy
    folder: Path


@pytest.fixture
def distant(
    run_dag: RunDag, namespace: Namespace, kubernetes_cluster: Cluster, cluster_s3: S3Server
) -> Iterator[Distant]:
    url, options = new_bucket(cluster_s3)
    host, port = cluster_s3.url.removeprefix("http://").split(":")
    with proxied((kubernetes_cluster.node_ip, 0), (host, int(port))) as proxy:
        # The worker's client is not to try for minutes by itself.
        options = {
            **options,
            "client_kwargs": {**options["client_kwargs"], "endpoint_url": f"http://{host}:{proxy.port}"},
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        settings = {"STORE": url, "STORAGE_OPTIONS": json.dumps(options)}
        yield Distant(
            Deployment(run_dag, namespace, settings), proxy, cluster_s3.folder / url.removeprefix("s3://").split("/")[0]
        )


def test_an_output_of_5_gib_reaches_a_slow_store_and_is_committed(distant: Distant) -> None:
    distant.proxy.rate = RATE
    refusal = distant.proxy.rule("PUT .*partNumber", "fail", answer=SLOW_DOWN, times=5)
    began = time.monotonic()
    result = distant.deployment.run(
        f'step("big", "truncate -s {SIZE} $MLOPS_OUTPUT_DATA", outputs={{"data": "dataset"}})'
    )
    assert result.tasks == {"big": "success"}, result.log[-6000:]
    assert time.monotonic() - began > SIZE / RATE
    assert refusal.met == 5
    assert result.xcoms["big"]["artifacts"]["data"]["size"] == SIZE
    (found,) = distant.folder.rglob("outputs/data")
    assert found.stat().st_size == SIZE
    found.unlink()
    assert distant.deployment.namespace.left() == []


HARVEST = """
def tell(context):
    open(TOLD, "w").close()
step("make", "echo 7 > $MLOPS_OUTPUT_N", outputs={"n": "integer"}, on_retry_callback=tell,
     retry_delay=timedelta(seconds=1))
"""


def test_a_store_that_is_away_when_an_ended_program_is_harvested_costs_no_second_run(
    distant: Distant, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    away = distant.proxy.rule(r"GET [^?]*/uploaded\.json", "cut")

    def come_back() -> None:
        try:
            until(told.exists, seconds=120)
        finally:
            away.released.set()

    back = threading.Thread(target=come_back)
    back.start()
    result = distant.deployment.run(HARVEST.replace("TOLD", repr(str(told))))
    back.join()
    assert told.exists() and away.met > 0, result.log[-6000:]
    assert result.tasks == {"make": "success"}, result.log[-6000:]
    assert result.xcoms["make"]["parameters"] == {"n": 7}
    assert "infrastructure: " in result.log and result.log.count("] Pod mlops-") == 1, result.log[-8000:]
    assert distant.deployment.namespace.left() == []
