"""The console as a strategy: what it tells of its updates."""

from __future__ import annotations

import math

import pytest
from console.toy import feedback, reward
from strategies.test_strategies import CELLS, RECIPE

from mads.errors import UsageError
from mads.recipe import recipe_from_table
from mads.strategies.console import Console


def test_it_begins_with_the_prior() -> None:
    assert Console.start(CELLS, RECIPE).scores(CELLS).tolist() == [1.0, 2.0]
    wrong = recipe_from_table({"console": {"prior": {"kind": {"c": 2.0}}}}, "test")
    with pytest.raises(UsageError, match=r"console\.prior\.kind\.c: no such category"):
        Console.start(CELLS, wrong)


def test_it_follows_rewards() -> None:
    found = Console.start(CELLS, RECIPE)
    for _ in range(3):
        updated = found.updated(feedback({"kind": {"a": reward(1.0), "b": reward(-1.0)}}))
        assert isinstance(updated.strategy, Console)
        found = updated.strategy
    assert found.weights["kind"]["a"] > found.weights["kind"]["b"]
    assert found.round == 3


def test_refused_rewards_are_told_and_change_no_weight() -> None:
    start = Console.start(CELLS, RECIPE)
    updated = start.updated(feedback({"kind": {"a": reward(math.nan), "b": reward(1.0)}}))
    assert updated.strategy.weights == start.weights
    assert updated.refused == "rewards that are not finite: kind/a"
    assert updated.notes == ("the console keeps its weights: rewards that are not finite: kind/a.",)
    assert updated.guards == {"refused": 1}


def test_a_collapse_is_told() -> None:
    close = recipe_from_table({"console": {"min_entropy": 1.0}}, "test")
    updated = Console.start(CELLS, close).updated(
        feedback({"kind": {"a": reward(1.0), "b": reward(-1.0)}})
    )
    (note,) = updated.notes
    assert note.startswith("weights were about to collapse onto few categories")
