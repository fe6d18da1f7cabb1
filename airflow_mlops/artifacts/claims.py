# SPDX-License-Identifier: Apache-2.0
"""
Claims: which try owns a generation.

Each try puts a claim before it does anything; the highest one owns. Whoever finds a higher claim than its own has been
replaced, and touches nothing any more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_mlops.artifacts.errors import DocumentInvalid
from airflow_mlops.artifacts.strict_json import canonical, parse

if TYPE_CHECKING:
    from airflow_mlops.artifacts.layout import Place
    from airflow_mlops.artifacts.store import Store

_CLAIM = re.compile(r"claim-([0-9]{1,9})\.json\Z")
_LIMIT = 4096


def claim(store: Store, place: Place, try_number: int, owner: str) -> bool:
    """
    Claim a generation for a try. Claiming twice is claiming once.

    :param owner: Airflow's id of the try
    :return: whether the claim is this owner's; ``False`` if another process has the same try's
    """
    key = place.claim_key(try_number)
    data = canonical({"version": 1, "try": try_number, "owner": owner})
    # A power failure ends what a claim guards, so the claim need not outlive one.
    return store.put_if_absent(key, data, durable=False) or store.read(key, _LIMIT) == data


def owner(store: Store, place: Place) -> tuple[int, str] | None:
    """
    Who owns a generation: the try with the highest claim, and its owner; ``None`` before the first claim.

    :raises DocumentInvalid: if the claim cannot be read
    """
    tries = [
        int(found[1]) for key in store.list(place.generation_key) if (found := _CLAIM.match(key.rpartition("/")[2]))
    ]
    if not tries:
        return None
    key = place.claim_key(max(tries))
    try:
        document = parse(store.read(key, _LIMIT), limit=_LIMIT)
    except ValueError as error:
        raise DocumentInvalid(f"the claim {store.uri(key)} {error}") from None
    name = document.get("owner") if isinstance(document, dict) else None
    if not isinstance(name, str) or document.get("try") != max(tries):
        raise DocumentInvalid(f"{store.uri(key)} is no claim; expected an object with 'try' and 'owner'")
    return max(tries), name
