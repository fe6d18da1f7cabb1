# SPDX-License-Identifier: Apache-2.0
"""What a deployment allows a step, asked for by specs' authors and seen from inside containers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow")

from airflow_mlops.operators import policy
from airflow_mlops.operators.failures import PolicyViolation
from airflow_mlops.operators.settings import Settings
from tests.operators.test_docker import HEAD
from tests.parts.docker import containers

if TYPE_CHECKING:
    from tests.parts.airflow_home import RunDag

pytestmark = [pytest.mark.airflow, pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(autouse=True)
def busybox(docker_daemon: str, busybox_image: str) -> None:
    """Every test here needs the daemon and the image."""


def asked(**wishes: Any) -> Any:
    """A step that asks for something, as the policy sees it."""
    nothing = {"network_mode": None, "ipc_mode": None, "cap_add": None, "user": "1000:1000", "device_requests": None}
    return SimpleNamespace(task_id="fit", image="busybox:1", **(nothing | wishes))


@pytest.mark.parametrize(
    ("wish", "setting", "opened"),
    [
        ({"network_mode": "host"}, "allowed_networks", ("host",)),
        ({"network_mode": "container:db"}, "allowed_networks", ("container:*",)),
        ({"network_mode": "features"}, "allowed_networks", ("feat*",)),
        ({"ipc_mode": "host"}, "allowed_ipc_modes", ("host",)),
        ({"cap_add": ["CAP_SYS_ADMIN"]}, "allowed_capabilities", ("SYS_ADMIN",)),
        ({"cap_add": ["chown"]}, "allowed_capabilities", ("cap_chown",)),
    ],
)
def test_what_is_not_listed_is_refused_with_the_name_of_its_setting(
    wish: dict[str, Any], setting: str, opened: tuple[str, ...]
) -> None:
    with pytest.raises(PolicyViolation, match=rf"step 'fit' asks for .* \[mlops\] {setting} \(now: none\)"):
        policy.check_container(asked(**wish), Settings("file:///s"))
    policy.check_container(asked(**wish), Settings("file:///s", **{setting: opened}))


@pytest.mark.parametrize("user", ["0", "root", "0:1000", "root:root", 0])
def test_root_is_refused_where_the_worker_is_not_root(user: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.os, "getuid", lambda: 1000)
    with pytest.raises(PolicyViolation, match="allowed_users"):
        policy.check_container(asked(user=user), Settings("file:///s"))
    policy.check_container(asked(user=user), Settings("file:///s", allowed_users=("root",)))
    policy.check_container(asked(user="1000:0"), Settings("file:///s"))


def test_devices_are_gpus() -> None:
    gpus = asked(device_requests=[{"Count": 1, "Capabilities": [["gpu", "nvidia"]]}])
    policy.check_container(gpus, Settings("file:///s"))
    with pytest.raises(PolicyViolation, match="asks for devices"):
        policy.check_container(asked(device_requests=[{"capabilities": [["tpu"]]}]), Settings("file:///s"))


def test_images_by_digest_can_be_demanded() -> None:
    settings = Settings("file:///s", require_digest=True)
    with pytest.raises(PolicyViolation, match="require_digest"):
        policy.check_container(asked(), settings)
    pinned = asked()
    pinned.image = "busybox@sha256:" + "0" * 64
    policy.check_container(pinned, settings)


def test_a_container_has_no_capabilities_no_way_to_more_and_few_processes(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("look", "grep -e ^Cap -e ^NoNewPrivs /proc/self/status; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true")
    step("bound", "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait")
    step("more", "grep ^CapBnd /proc/self/status", cap_add=["CHOWN"])
    step("host", "true", network_mode="host", retries=2)
    """,
        env={"AIRFLOW__MLOPS__PIDS_LIMIT": "8"},
    )
    assert result.tasks == {"look": "success", "bound": "failed", "more": "failed", "host": "failed"}, result.log
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in result.log or line.replace("\t", "\\t") in result.log
    assert "can't fork" in result.log
    assert "asks for capability CHOWN" in result.log
    assert "asks for network 'host'" in result.log
    assert "(now: none)" in result.log
    assert containers() == []


def test_what_is_listed_is_given_and_the_root_can_be_read_only(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    step("more", "grep CapBnd /proc/self/status | grep -q 0000000000000001", cap_add=["CHOWN"])
    step("shut", "echo x > /tmp/t && echo x > $HOME/t && echo 5 > $MLOPS_OUTPUT_N && ! echo x > /etc/x", outputs={"n": "integer"})
    """,
        env={"AIRFLOW__MLOPS__ALLOWED_CAPABILITIES": "chown", "AIRFLOW__MLOPS__READ_ONLY_ROOT": "true"},
    )
    assert result.tasks == {"more": "success", "shut": "success"}, result.log


def test_a_runtime_that_is_not_offered_is_refused(run_dag: RunDag) -> None:
    result = run_dag(
        HEAD
        + """
    from airflow_mlops.operators import ProcessContainerOperator
    ProcessContainerOperator(task_id="bare", command=["true"], retries=2, dag=dag)
    step("boxed", "true")
    """,
        env={"AIRFLOW__MLOPS__ALLOWED_RUNTIMES": "docker"},
    )
    assert result.tasks == {"bare": "failed", "boxed": "success"}, result.log
    assert "runs in runtime 'process', which this deployment does not allow" in result.log
    assert "(now: docker)" in result.log
