# SPDX-License-Identifier: Apache-2.0
"""The id of an Airflow installation, which keeps two of them apart on one store, daemon or cluster."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import InstanceUnknown, NotFound

if TYPE_CHECKING:
    from airflow_mlops.artifacts.store import Store

KEY = "_instances/default"
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")
_EXPECTED = "expected up to 40 lower-case letters, digits and dashes, such as 'prod-eu'"


def instance_id(store: Store, configured: str | None) -> str:
    """
    The id of this installation.

    :param configured: ``[mlops] instance``; needed as soon as the store is not a folder
    :raises InstanceUnknown: if it is needed and missing, or cannot be used
    """
    if configured is not None:
        if not _ID.match(configured):
            raise InstanceUnknown(f"[mlops] instance is {configured!r}; {_EXPECTED}")
        return configured
    if store.local_path(KEY) is None:
        raise InstanceUnknown(
            f"the store {store.url} may be shared, so this Airflow needs an id of its own there: set [mlops] "
            f"instance; {_EXPECTED}"
        )
    found = _read(store)
    if found is None:
        store.put_if_absent(KEY, f"i-{secrets.token_hex(4)}\n".encode())
        found = _read(store) or ""
    if not _ID.match(found):
        raise InstanceUnknown(f"{store.uri(KEY)} holds {found!r}; {_EXPECTED}: mend it, or set [mlops] instance")
    return found


def known_instance(store: Store, configured: str | None) -> str | None:
    """
    The id of this installation, if it has one yet. Nothing is written.

    :raises InstanceUnknown: as :func:`instance_id`
    """
    if configured is None and store.local_path(KEY) is not None and _read(store) is None:
        return None
    return instance_id(store, configured)


def _read(store: Store) -> str | None:
    try:
        return store.read(KEY, 256).decode("utf-8", "replace").strip()
    except NotFound:
        return None
