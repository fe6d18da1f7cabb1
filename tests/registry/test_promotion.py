# SPDX-License-Identifier: Apache-2.0
"""Promotion and rollback: which aliases move together, and that a second call does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.registry import (
    AliasMoved,
    ModelRegistry,
    NameRefused,
    RegistryBusy,
    UnknownModel,
    UnknownVersion,
    promote,
    rollback,
)
from airflow_mlops.registry import tries as tries_module
from airflow_mlops.registry.promotion import Changes, promotion, way_back

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Store
    from tests.registry.conftest import Make

NUMBERS = st.integers(1, 4)
STATES = st.dictionaries(st.sampled_from(["champion", "challenger", "previous", "shadow"]), NUMBERS)


@pytest.fixture
def store(file_store: Store) -> Store:
    """One kind of store: what matters here is the registry."""
    return file_store


@pytest.fixture
def churn(registry: ModelRegistry, make_model: Make) -> ModelRegistry:
    """Three versions; the third one is the challenger."""
    for _ in range(3):
        registry.register("churn", make_model(), by="me")
    registry.move("churn", {"challenger": 3}, by="me")
    return registry


def after(aliases: Mapping[str, int], changes: Changes) -> dict[str, int]:
    return {alias: number for alias, number in {**aliases, **changes}.items() if number is not None}


def test_the_champion_becomes_the_previous_one(churn: ModelRegistry) -> None:
    assert promote(churn, "churn", 1, by="me").message == (
        "version 1 of churn is the champion now, and there was none before"
    )
    assert churn.aliases("churn") == {"champion": 1, "challenger": 3}
    done = promote(churn, "churn", 3, by="gate", why="auc 0.9 > 0.8")
    assert done.message == "version 3 of churn is the champion now, and version 1 is the previous one"
    assert churn.aliases("churn") == {"champion": 3, "previous": 1}
    assert done.move == churn.history("churn")[-1]
    assert (done.move.by, done.move.why) == ("gate", "auc 0.9 > 0.8")


def test_promoting_the_champion_changes_nothing(churn: ModelRegistry) -> None:
    promote(churn, "churn", 1, by="me")
    promote(churn, "churn", 2, by="me")
    again = promote(churn, "churn", 2, by="me")
    assert again.move is None
    assert again.message == "version 2 of churn is the champion already"
    assert churn.aliases("churn") == {"champion": 2, "previous": 1, "challenger": 3}


def test_a_rollback_can_be_rolled_back(churn: ModelRegistry) -> None:
    promote(churn, "churn", 1, by="me")
    promote(churn, "churn", 2, by="me")
    done = rollback(churn, "churn", by="ann", why="complaints")
    assert done.message == "version 1 of churn is the champion again, and version 2 the previous one"
    assert churn.aliases("churn") == {"champion": 1, "previous": 2, "challenger": 3}
    rollback(churn, "churn", by="ann")
    assert churn.aliases("churn") == {"champion": 2, "previous": 1, "challenger": 3}


def test_a_rollback_that_is_tried_again_does_not_take_itself_back(churn: ModelRegistry) -> None:
    promote(churn, "churn", 1, by="me")
    promote(churn, "churn", 2, by="me")
    assert rollback(churn, "churn", by="me", only_from=2).move is not None
    again = rollback(churn, "churn", by="me", only_from=2)
    assert again.move is None
    assert again.message == "version 2 of churn is not the champion, that is version 1: nothing to roll back"
    assert churn.aliases("churn")["champion"] == 1


def test_a_rollback_without_a_previous_version_changes_nothing(churn: ModelRegistry) -> None:
    for _ in range(2):
        assert rollback(churn, "churn", by="me").move is None
        promote(churn, "churn", 1, by="me")
    assert "nothing to roll back to" in rollback(churn, "churn", by="me").message


def test_what_cannot_be_promoted_is_refused(churn: ModelRegistry) -> None:
    number: Any = "1"
    with pytest.raises(UnknownVersion):
        promote(churn, "churn", 4, by="me")
    with pytest.raises(UnknownModel):
        promote(churn, "other", 1, by="me")
    with pytest.raises(NameRefused):
        promote(churn, "churn", number, by="me")
    with pytest.raises(NameRefused):
        rollback(churn, "churn", by="me", only_from=number)
    churn.delete("churn", 1, by="me")
    with pytest.raises(UnknownVersion, match="was deleted"):
        promote(churn, "churn", 1, by="me")


def test_a_promotion_that_meets_another_one_comes_after_it(churn: ModelRegistry, monkeypatch: Any) -> None:
    honest = type(churn).aliases
    others = iter([1, 2])

    def aliases(self: ModelRegistry, name: str) -> dict[str, int]:
        """Somebody else is faster, twice."""
        found = honest(self, name)
        if (other := next(others, None)) is not None:
            self.move(name, {"champion": other}, by="other")
        return found

    monkeypatch.setattr(type(churn), "aliases", aliases)
    assert promote(churn, "churn", 3, by="me").message.endswith("version 2 is the previous one")
    assert churn.aliases("churn") == {"champion": 3, "previous": 2}


def test_a_promotion_that_is_never_fast_enough_gives_up_and_may_be_tried_again(
    churn: ModelRegistry, monkeypatch: Any
) -> None:
    def move(*_: Any, **__: Any) -> None:
        raise AliasMoved("somebody else was faster")

    monkeypatch.setattr(tries_module, "_LONGEST", 0.0)
    monkeypatch.setattr(type(churn), "move", move)
    with pytest.raises(RegistryBusy, match="try again"):
        promote(churn, "churn", 3, by="me")


@given(STATES, NUMBERS)
def test_after_a_promotion_it_is_the_champion_once_and_the_old_one_is_not_lost(
    aliases: dict[str, int], number: int
) -> None:
    changes, _ = promotion("churn", number, aliases)
    then = after(aliases, changes)
    assert then["champion"] == number
    assert then.get("challenger") != number
    assert then.get("shadow") == aliases.get("shadow")
    if (champion := aliases.get("champion")) not in (None, number):
        assert then["previous"] == champion
    else:
        assert then.get("previous") == aliases.get("previous")
    assert promotion("churn", number, then)[0] == {}


@given(STATES)
def test_after_a_rollback_champion_and_previous_have_changed_places(aliases: dict[str, int]) -> None:
    changes, _ = way_back("churn", aliases, None)
    if not changes:
        assert aliases.get("previous") in (None, aliases.get("champion"))
        return
    then = after(aliases, changes)
    assert then["champion"] == aliases["previous"]
    assert then.get("previous") == aliases.get("champion")
    assert then.get("challenger") == aliases.get("challenger")


@given(STATES, NUMBERS)
def test_a_rollback_undoes_a_promotion(aliases: dict[str, int], number: int) -> None:
    promoted = after(aliases, promotion("churn", number, aliases)[0])
    champion = aliases.get("champion")
    if champion not in (None, number):
        back = after(promoted, way_back("churn", promoted, number)[0])
        assert back["champion"] == champion
