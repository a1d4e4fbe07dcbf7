"""Which round a step lies in, by hand."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest

from mads.recipe import recipe_from_table
from mads.run.schedule import round_bounds, round_of, strategy_name


def test_rounds_by_hand(tmp_path: Path) -> None:
    recipe = planted.recipe(tmp_path, steps=25, first_update=10, update_every=6)
    assert [round_of(s, recipe) for s in (0, 9, 10, 15, 16, 24)] == [0, 0, 1, 1, 2, 3]
    bounds = [round_bounds(n, recipe) for n in range(4)]
    assert bounds == [(0, 10), (10, 16), (16, 22), (22, 25)]


@pytest.mark.parametrize(
    ("strategy", "policy", "expected"),
    [
        ("console", "sample", "console"),
        ("fixed", "top", "fixed"),
        ("random", "sample", "random"),
        ("console", "random", "random"),
        ("fixed", "random", "random"),
        ("mixture", "random", "mixture"),  # its shares are no scores
    ],
)
def test_a_policy_that_reads_no_scores_needs_no_weights(
    strategy: str, policy: str, expected: str
) -> None:
    mixture = {"mixture": {"domain": "doremi"}} if strategy == "mixture" else {}
    table = {"strategy": strategy, "selection": {"policy": policy}, **mixture}
    assert strategy_name(recipe_from_table(table, "test")) == expected
