"""What a strategy answers after a round of evidence."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from strategies.test_strategies import CELLS, RECIPE

from mads.strategies.fixed import Fixed
from mads.strategies.strategy import Evidence, Updated


def test_an_update_without_news_says_nothing() -> None:
    found = Updated(Fixed.start(CELLS, RECIPE))
    assert (found.refused, found.guards, found.notes) == ("", {}, ())
    assert found.guards is not Updated(found.strategy).guards  # none is shared


def test_an_update_cannot_be_changed() -> None:
    found = Updated(Fixed.start(CELLS, RECIPE))
    with pytest.raises(FrozenInstanceError):
        found.refused = "no"  # type: ignore[misc]


def test_evidence_is_named_by_its_words() -> None:
    assert [str(evidence) for evidence in Evidence] == [
        "nothing",
        "document rewards",
        "category losses",
    ]
    assert Evidence("document rewards") is Evidence.DOCUMENT_REWARDS
