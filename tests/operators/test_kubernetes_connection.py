# SPDX-License-Identifier: Apache-2.0
"""Which namespace is meant, as keywords, a connection and a kubeconfig say it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("airflow")
pytest.importorskip("kubernetes")

from airflow_mlops.operators.kubernetes_connection import namespace_of

CLUSTERS = [{"name": "c", "cluster": {"server": "https://cluster.example"}}]
USERS = [{"name": "u", "user": {}}]


def test_the_namespace_of_a_kubeconfigs_context_is_the_last_to_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [
        {"name": name, "context": {"cluster": "c", "user": "u", "namespace": f"of-{name}"}} for name in ("one", "two")
    ]
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps({"contexts": contexts, "current-context": "two", "clusters": CLUSTERS, "users": USERS}))
    extra = {"kube_config_path": str(file)}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    assert namespace_of({}, "here") == "of-two"
    assert namespace_of({"cluster_context": "one"}, "here") == "of-one"
    assert namespace_of({"namespace": "named"}, "here") == "named"
    extra["namespace"] = "of-connection"
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    assert namespace_of({}, "here") == "of-connection"
    file.write_text("no: kubeconfig")
    monkeypatch.setenv(
        "AIRFLOW_CONN_KUBERNETES_DEFAULT",
        json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(file)}}),
    )
    assert namespace_of({}, "here") == "default"
