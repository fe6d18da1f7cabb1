# SPDX-License-Identifier: Apache-2.0
"""An installation has one id, given or made; a shared store needs one that is given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_mlops.artifacts import InstanceUnknown, Store, encode_component, instance_id


def test_the_configured_id_wins(store: Store) -> None:
    assert instance_id(store, "prod-eu") == "prod-eu"
    assert not store.exists("_instances")


def test_a_folder_gets_an_id_that_stays(file_store: Store) -> None:
    first = instance_id(file_store, None)
    assert first == instance_id(Store.open(file_store.url), None)
    assert encode_component(first) == first


def test_starting_at_the_same_time_gives_one_id(file_store: Store) -> None:
    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(lambda _: instance_id(file_store, None), range(20)))) == 1


def test_two_folders_have_two_ids(file_store: Store) -> None:
    assert instance_id(file_store, None) != instance_id(Store.open(file_store.url + "-2"), None)


def test_a_shared_store_needs_an_id() -> None:
    with pytest.raises(InstanceUnknown, match=r"set \[mlops\] instance"):
        instance_id(Store.open("s3://bucket/prefix"), None)


@pytest.mark.parametrize("name", ["", "Prod", "a b", "../x", "-a", "a-", "x" * 41, "a\n", "a.b", "ü"])
def test_an_id_that_is_no_name_is_refused(file_store: Store, name: str) -> None:
    with pytest.raises(InstanceUnknown, match=r"\[mlops\] instance is"):
        instance_id(file_store, name)


def test_a_spoilt_id_is_not_used(file_store: Store) -> None:
    file_store.put_if_absent("_instances/default", b"../../x")
    with pytest.raises(InstanceUnknown, match="mend it"):
        instance_id(file_store, None)
